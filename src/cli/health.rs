//! `predictd health`: checks the local server, for containers without curl.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context;

use crate::{
    cli::{CommandOutcome, ConfigArgs},
    config::Listen,
};

const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Address of the server [default: server.listen]
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
    /// Check whether the server is live instead of ready
    #[arg(long)]
    live: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let listen = match &args.listen {
        Some(listen) => listen.clone(),
        None => args.config.load()?.server.listen,
    };
    let address = listen
        .resolve()
        .with_context(|| format!("resolving {listen}"))?;
    let address = address
        .into_iter()
        .map(reachable)
        .next()
        .context("the host name has no address")?;
    let path = if args.live { "/livez" } else { "/readyz" };
    let answer = ask(address, path).with_context(|| {
        format!(
            "no server answers {path} at {address} (start one with `predictd serve`, or give its \
             address with --listen or --config)"
        )
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    say!("{}", body.trim());
    let healthy = head.split(' ').nth(1) == Some("200");
    Ok(if healthy {
        CommandOutcome::Done
    } else {
        CommandOutcome::Failed
    })
}

/// The address to connect to: loopback if the server listens on all addresses.
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port())
        }
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), listen.port())
        }
        _ => listen,
    }
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    Ok(answer)
}
