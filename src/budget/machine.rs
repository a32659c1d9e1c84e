//! How much memory this process may use: that of its control group (a container's limit), or of the machine.

use std::fs;

/// What is assumed where the system does not say.
const UNKNOWN_BYTES: u64 = 8 << 30;

/// Where control groups of version 2 and 1 state the limit of a container, as the container sees them.
const LIMIT_FILES: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Bytes that this process may use.
pub fn memory_of_machine() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text)).unwrap_or(UNKNOWN_BYTES);
    // "max", or a number beyond any machine, where there is no limit.
    let limit = |file: &&str| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    LIMIT_FILES.iter().filter_map(limit).fold(machine, u64::min)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_and_nonsense_is_not() {
        assert_eq!(total_of("MemFree: 1 kB\nMemTotal:       24028160 kB\n"), Some(24_028_160 << 10));
        assert_eq!(total_of("MemTotal: many kB\n"), None);
        assert!(memory_of_machine() > 1 << 20);
    }
}
