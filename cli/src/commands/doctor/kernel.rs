//! Settings of the kernel that lose connections or cost latency.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::step::Finding;
use ringhook::internals::io::listener::BACKLOG;

/// Connections that may wait to be accepted below which bursts are lost: several bots at `active`
/// with ten new connections each.
const SOMAXCONN_MIN: u64 = 512;
/// As above, for handshakes of TCP in progress, where SYN cookies do not stand in.
const SYN_BACKLOG_MIN: u64 = 256;
/// The part of the connection table, in percent, above which it may be full soon.
const CONNTRACK_PERCENT: u64 = 80;

/// What `/proc` and `/sys` under `root` say.
pub(super) fn look(root: &Path) -> Finding {
    let system = System(root.to_owned());
    let found: Vec<_> = [
        system.somaxconn(),
        system.syn_backlog(),
        system.conntrack(),
        system.governor(),
        system.huge_pages(),
        system.swappiness(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let kernel = system.text("proc/sys/kernel/osrelease");
    let Some((first, _)) = found.first() else {
        return Finding::ok(format!(
            "nothing that costs latency (Linux {})",
            kernel.as_deref().unwrap_or("?")
        ));
    };
    let what = match found.len() {
        1 => first.clone(),
        count => format!("{count} settings cost connections or latency"),
    };
    let is_alone = found.len() == 1;
    let mut advice = found.into_iter().map(|(what, fix)| match is_alone {
        true => fix,
        false => format!("{what}: {fix}"),
    });
    let finding = Finding::warn(what, advice.next().unwrap_or_default());
    advice.fold(finding, Finding::and)
}

/// What was found, and the fix with its reason.
type Found = Option<(String, String)>;

struct System(PathBuf);

impl System {
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok().map(|text| text.trim().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    fn somaxconn(&self) -> Found {
        let count = self.number("proc/sys/net/core/somaxconn").filter(|n| *n < SOMAXCONN_MIN)?;
        Some((
            format!("net.core.somaxconn is {count}"),
            format!(
                "sysctl -w net.core.somaxconn={BACKLOG}: connections that come in a burst beyond \
                 it are lost and come again after a second"
            ),
        ))
    }

    fn syn_backlog(&self) -> Found {
        let has_cookies = self.number("proc/sys/net/ipv4/tcp_syncookies")? > 0;
        let path = "proc/sys/net/ipv4/tcp_max_syn_backlog";
        let count = self.number(path).filter(|n| !has_cookies && *n < SYN_BACKLOG_MIN)?;
        Some((
            format!("net.ipv4.tcp_max_syn_backlog is {count}, without SYN cookies"),
            "sysctl -w net.ipv4.tcp_syncookies=1: a few hundred half-open connections would shut \
             Telegram out"
                .to_owned(),
        ))
    }

    fn conntrack(&self) -> Found {
        let count = self.number("proc/sys/net/netfilter/nf_conntrack_count")?;
        let max = self.number("proc/sys/net/netfilter/nf_conntrack_max").filter(|max| *max > 0)?;
        (count.saturating_mul(100) > max.saturating_mul(CONNTRACK_PERCENT)).then(|| {
            (
                format!("the table of connections is nearly full ({count} of {max})"),
                format!(
                    "sysctl -w net.netfilter.nf_conntrack_max={}: new connections are dropped \
                     when it is full",
                    max.saturating_mul(4)
                ),
            )
        })
    }

    /// A CPU that is kept slow. The drivers of today's processors use the name `powersave` for one
    /// that follows the load, which is well enough.
    fn governor(&self) -> Found {
        let cpu = |file: &str| self.text(&format!("sys/devices/system/cpu/cpu0/cpufreq/{file}"));
        let driver = cpu("scaling_driver").unwrap_or_default();
        let is_slow = cpu("scaling_governor")? == "powersave"
            && !matches!(driver.as_str(), "intel_pstate" | "amd-pstate" | "amd-pstate-epp");
        is_slow.then(|| {
            (
                "the CPUs are kept at their lowest frequency (governor powersave)".to_owned(),
                "cpupower frequency-set -g schedutil, or performance: each update takes longer, \
                 and Telegram waits for each answer on its connection"
                    .to_owned(),
            )
        })
    }

    /// Memory that is compacted while a thread waits for it.
    fn huge_pages(&self) -> Found {
        let directory = "sys/kernel/mm/transparent_hugepage";
        let chosen = |file: &str, word: &str| {
            let text = self.text(&format!("{directory}/{file}")).unwrap_or_default();
            text.contains(&format!("[{word}]"))
        };
        (chosen("enabled", "always") && chosen("defrag", "always")).then(|| {
            (
                "transparent huge pages are made at once wherever memory is touched".to_owned(),
                format!(
                    "echo madvise > /{directory}/defrag: a thread can stand still for \
                     milliseconds while memory is moved for it"
                ),
            )
        })
    }

    /// Only where there is swap, and more eagerness than usual.
    fn swappiness(&self) -> Found {
        let meminfo = self.text("proc/meminfo")?;
        let swap = meminfo.lines().find_map(|line| line.strip_prefix("SwapTotal:"))?;
        let has_swap = swap.split_whitespace().next().is_some_and(|kilobytes| kilobytes != "0");
        let value =
            self.number("proc/sys/vm/swappiness").filter(|value| has_swap && *value > 60)?;
        Some((
            format!("vm.swappiness is {value}"),
            "sysctl -w vm.swappiness=10: a receiver that was swapped out answers the first update \
             after a quiet night late"
                .to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use super::*;
    use crate::commands::doctor::step::Verdict;

    fn look_at(files: &[(&str, &str)]) -> Finding {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        look(root.path())
    }

    const GOOD: [(&str, &str); 9] = [
        ("proc/sys/kernel/osrelease", "6.1.0"),
        ("proc/sys/net/core/somaxconn", "4096"),
        ("proc/sys/net/ipv4/tcp_syncookies", "1"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "128"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "intel_pstate"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
        ("sys/kernel/mm/transparent_hugepage/defrag", "always defer [madvise] never"),
        ("proc/meminfo", "MemTotal: 1 kB\nSwapTotal:      1000 kB"),
    ];

    #[test]
    fn usual_settings_are_well() {
        assert_eq!(look_at(&GOOD), Finding::ok("nothing that costs latency (Linux 6.1.0)"));
        assert_eq!(look_at(&[]).verdict, Verdict::Ok, "what cannot be read is not held against it");
    }

    #[test]
    fn each_bad_one_is_named_with_its_remedy() {
        for (path, text, what) in [
            ("proc/sys/net/core/somaxconn", "128", "net.core.somaxconn is 128"),
            ("proc/sys/net/ipv4/tcp_syncookies", "0", "tcp_max_syn_backlog is 128"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "acpi-cpufreq", "powersave"),
            ("sys/kernel/mm/transparent_hugepage/defrag", "[always] defer", "huge pages"),
            ("proc/sys/vm/swappiness", "100", "vm.swappiness is 100"),
        ] {
            let mut files = GOOD.to_vec();
            files.retain(|(other, _)| *other != path);
            files.push((path, text));
            let finding = look_at(&files);
            assert_eq!(finding.verdict, Verdict::Warn, "{finding:?}");
            assert!(finding.what.contains(what), "{finding:?}");
            assert_eq!(finding.fix.len(), 1, "{finding:?}");
        }
        let full = look_at(&[
            ("proc/sys/net/netfilter/nf_conntrack_count", "900"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "1000"),
            ("proc/sys/net/core/somaxconn", "128"),
        ]);
        assert_eq!(full.what, "2 settings cost connections or latency");
        assert!(full.fix[1].starts_with("the table of connections is nearly full (900 of 1000): "));
    }
}
