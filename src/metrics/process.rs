//! The series of the process, with the names and units of the Prometheus client libraries. The
//! values are read from `/proc` at each scrape.

use prometheus::{Counter, IntGauge};

use crate::metrics::series::series;

series! {
    pub(super) struct ProcessMetrics {
        cpu_seconds: Counter = "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.";
        open_fds: IntGauge = "process_open_fds", "Number of open file descriptors.";
        max_fds: IntGauge = "process_max_fds", "Maximum number of open file descriptors.";
        virtual_memory: IntGauge = "process_virtual_memory_bytes", "Virtual memory size in bytes.";
        resident_memory: IntGauge = "process_resident_memory_bytes", "Resident memory size in bytes.";
        start_time: IntGauge = "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.";
        threads: IntGauge = "process_threads", "Number of OS threads in the process.";
    }
}

impl ProcessMetrics {
    /// Reads the values of this process. A value that can't be read keeps its previous state.
    pub(super) fn update(&self) {
        if let Ok(entries) = fs_err::read_dir("/proc/self/fd") {
            self.open_fds.set(entries.count() as i64);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if let Some(limit) = limit.current {
            self.max_fds.set(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        let stat = fs_err::read_to_string("/proc/self/stat").ok();
        if let Some(stat) = stat.as_deref().and_then(ProcessStat::parse) {
            self.set(&stat);
        }
    }

    fn set(&self, stat: &ProcessStat) {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let seconds = stat.cpu_ticks as f64 / ticks_per_second as f64;
        // The clock of the CPU may go back by a tick.
        self.cpu_seconds
            .inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        self.threads.set(stat.threads);
        self.virtual_memory.set(stat.virtual_memory_bytes);
        let page_bytes = rustix::param::page_size() as i64;
        self.resident_memory
            .set(stat.resident_memory_pages.saturating_mul(page_bytes));
        // The start time never changes, and /proc/stat is slow to read on a machine with many
        // cores.
        if self.start_time.get() == 0
            && let Some(boot) = boot_time()
        {
            let after_boot = stat.start_ticks / ticks_per_second;
            self.start_time
                .set(i64::try_from(boot.saturating_add(after_boot)).unwrap_or(i64::MAX));
        }
    }
}

/// Fields of `/proc/PID/stat`, as defined in proc(5).
#[derive(Debug, PartialEq)]
struct ProcessStat {
    /// The user and system time, in clock ticks.
    cpu_ticks: u64,
    threads: i64,
    /// The clock ticks from the boot of the machine to the start of the process.
    start_ticks: u64,
    virtual_memory_bytes: i64,
    resident_memory_pages: i64,
}

impl ProcessStat {
    fn parse(text: &str) -> Option<ProcessStat> {
        // The second field is the name of the program. It may contain spaces and parentheses.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // proc(5) numbers the fields from 1, and the name is field 2.
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = |number: usize| field(number)?.parse::<u64>().ok();
        let count = |number: usize| field(number)?.parse::<i64>().ok();
        Some(ProcessStat {
            cpu_ticks: ticks(14)?.saturating_add(ticks(15)?),
            threads: count(20)?,
            start_ticks: ticks(22)?,
            virtual_memory_bytes: count(23)?,
            resident_memory_pages: count(24)?,
        })
    }
}

/// The time at which the machine was booted, in seconds since the Unix epoch.
fn boot_time() -> Option<u64> {
    let stat = fs_err::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use crate::metrics::process::ProcessStat;

    #[test]
    fn the_name_of_the_program_may_contain_parentheses() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 120 30 0 0 20 0 9 0 5000 1048576 \
                    256 18446744073709551615 1";
        assert_eq!(
            ProcessStat::parse(text),
            Some(ProcessStat {
                cpu_ticks: 150,
                threads: 9,
                start_ticks: 5000,
                virtual_memory_bytes: 1_048_576,
                resident_memory_pages: 256,
            })
        );
        assert_eq!(ProcessStat::parse("7 (a) S 1 7"), None);
        assert_eq!(ProcessStat::parse(""), None);
    }
}
