//! Wrong usage, and servers that do not answer.

use std::net::TcpListener;

use super::start_site;
use crate::harness::{assert_contains, run_predictd};

/// Arguments, and a part of the error.
const WRONG_USAGE: &[(&[&str], &str)] = &[
    (&["rollout", "abort", "churn"], "--reason"),
    (&["rollout", "start", "churn"], "--to"),
    (
        &["rollout", "start", "churn", "--to", "new"],
        "not a version",
    ),
    (
        &["rollout", "start", "../churn", "--to", "1.1.0"],
        "not the name of a model",
    ),
    (
        &[
            "rollout",
            "start",
            "churn",
            "--to",
            "1.1.0",
            "--allow-forward-only",
        ],
        "--reason",
    ),
    (
        &[
            "rollout",
            "start",
            "churn",
            "--to",
            "1.1.0",
            "--accept-unproved",
            "/age",
        ],
        "--reason",
    ),
    (
        &["rollout", "promote", "churn", "--without-way-back"],
        "--reason",
    ),
    (&["rollout", "dance", "churn"], "dance"),
    (&["rollback"], "MODEL"),
    (&["history", "churn", "--limit", "few"], "few"),
    (
        &["rollout", "status", "--server", "localhost:8082"],
        "http://HOST:PORT",
    ),
    (
        &[
            "rollout",
            "status",
            "--server",
            "http://ann:secret@localhost",
        ],
        "PREDICTD_TOKEN",
    ),
];

#[test]
fn wrong_usage_is_reported_before_a_request_is_sent() {
    for (arguments, part) in WRONG_USAGE {
        let (code, output, error) = run_predictd(arguments, "", &[]);
        assert!(
            code == 2 && output.is_empty() && error.contains(part),
            "{arguments:?}: {code} {output}{error}"
        );
    }
    assert_eq!(
        run_predictd(
            &["rollout", "status"],
            "",
            &[("PREDICTD_SERVER", "nowhere")]
        )
        .0,
        2
    );
    // The usage does not ask for an option that the environment sets.
    let site = [("PREDICTD_SERVER", "http://127.0.0.1:1")];
    for arguments in [
        &["rollout", "abort", "churn"][..],
        &["history", "churn", "--repair"],
        &["rollback", "churn", "--never-stable"],
    ] {
        let (code, _, error) = run_predictd(arguments, "", &site);
        assert!(
            code == 2
                && error.contains("Usage: ")
                && error.contains("--reason")
                && !error.contains("--server"),
            "{error}"
        );
    }
}

/// Arguments, and parts of the error.
const REFUSED: &[(&[&str], &[&str])] = &[
    (
        &["rollout", "status", "nobody"],
        &[
            "(404)",
            "no model \"nobody\"",
            "`predictd rollout status` lists the models",
        ],
    ),
    (
        &["rollout", "start", "churn", "--to", "7.0.0"],
        &["(422)", "no version 7.0.0"],
    ),
    (
        &[
            "rollout", "start", "churn", "--to", "1.1.0", "--plan", "bold",
        ],
        &["(400)", "no plan \"bold\"", "the path of a plan file"],
    ),
    (
        &[
            "rollout",
            "start",
            "churn",
            "--to",
            "1.1.0",
            "--plan",
            "missing.toml",
        ],
        &["missing.toml"],
    ),
    (
        &[
            "rollout", "start", "churn", "--to", "1.1.0", "--plan", "high",
        ],
        &["(403)", "two verified operators"],
    ),
    (
        &["rollout", "promote", "churn"],
        &["(422)", "no rollout of churn"],
    ),
    (
        &["rollout", "abort", "churn", "--reason", "x"],
        &["(422)", "no rollout of churn"],
    ),
    (
        &["rollback", "churn"],
        &["(422)", "no previous stable version"],
    ),
];

#[test]
fn an_unreachable_server_is_named() {
    let site = start_site(&[]);
    // A port without a listener.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for arguments in [
        &["rollout", "status"][..],
        &["rollback", "churn"],
        &["history", "churn"],
        &["rollout", "status", "--watch"],
    ] {
        let (code, output, error) = run_predictd(
            arguments,
            "",
            &[("PREDICTD_SERVER", &format!("http://{free}"))],
        );
        assert!(code == 1 && output.is_empty(), "{output}{error}");
        assert_contains(
            &error,
            &[
                &format!("no server answers at http://{free}: connection refused"),
                "admin.listen",
                "--server URL or PREDICTD_SERVER",
            ],
        );
    }
    // A request to this machine ignores the proxy.
    let environment = [
        ("PREDICTD_SERVER", &*site.server.admin_url("")),
        ("http_proxy", &format!("http://{free}")),
        ("ALL_PROXY", "http://127.0.0.1:9"),
    ];
    assert_eq!(run_predictd(&["rollout", "status"], "", &environment).0, 0);
    let data = format!("http://{}", site.server.addresses.data);
    let (code, _, error) = run_predictd(&["rollout", "status", "--server", &data], "", &[]);
    assert!(
        code == 1
            && error.contains(&format!(
                "{data} answers (404), but is not predictd's admin listener"
            )),
        "{error}"
    );
}

#[test]
fn a_refused_command_shows_the_status_and_the_error() {
    let site = start_site(&[]);
    for (arguments, parts) in REFUSED {
        let error = site.refusal_of(arguments);
        assert!(error.starts_with("predictd: "), "{error}");
        assert_contains(&error, parts);
    }
    site.start_rollout();
    assert_contains(
        &site.refusal_of(&["rollout", "start", "churn", "--to", "1.1.0"]),
        &[
            "(409)",
            "is in progress",
            "next: predictd rollout abort churn --reason TEXT",
        ],
    );
}
