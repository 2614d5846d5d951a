//! The control groups that this process is in (cgroups(7)), and what their memory controllers say, in versions 1 and 2.

/// One file of a memory controller, which has another name in each version.
struct Controlled {
    version_1: &'static str,
    version_2: &'static str,
}

const LIMIT: Controlled = Controlled { version_1: "memory.limit_in_bytes", version_2: "memory.max" };
const EVENTS: Controlled = Controlled { version_1: "memory.oom_control", version_2: "memory.events" };

/// Processes of one control group, or of those below it, that the system ended because memory ran out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OutOfMemory {
    /// The file that says so, which names the group.
    pub file: String,
    /// True for the group that this process is in, false for one above it.
    pub own: bool,
    /// How many since the group was made.
    pub processes: u64,
}

/// The lowest memory limit of our group and those that it is in, in bytes.
pub fn memory_limit() -> Option<u64> {
    lowest_limit(&groups(), &read)
}

/// How many processes the system has ended so far because memory ran out: in our group, and in those that it is in. Version 1
/// counts each group by itself; of version 2 the groups above outlive ours, which a service manager removes with the service.
pub fn out_of_memory() -> Vec<OutOfMemory> {
    counts(&groups(), &read)
}

fn groups() -> String {
    std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn lowest_limit(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    // "max", and what version 1 has in its place, are above any machine.
    let files = files(groups, &LIMIT, read).into_iter();
    files.filter_map(|(_, _, text)| text.trim().parse().ok()).min()
}

fn counts(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<OutOfMemory> {
    let count =
        |text: &str| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    let files = files(groups, &EVENTS, read).into_iter();
    files.filter_map(|(file, own, text)| Some(OutOfMemory { processes: count(&text)?, file, own })).collect()
}

/// The file of our group and of each that it is in, by the text of `/proc/self/cgroup`: its path, whether the group is ours, and
/// what is in it.
fn files(
    groups: &str,
    name: &Controlled,
    read: &dyn Fn(&str) -> Option<String>,
) -> Vec<(String, bool, String)> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", name.version_2),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", name.version_1)
            }
            _ => continue,
        };
        // In a container the path may be the host's, of which only the last part is to be seen: then the root is our group.
        let mut at = path.trim_end_matches('/');
        let mut own = true;
        loop {
            let file = format!("{root}{at}/{name}");
            if let Some(text) = read(&file) {
                files.push((file, own, text));
                own = false;
            }
            let Some((above, _)) = at.rsplit_once('/') else { break };
            at = above;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    type Files<'a> = &'a [(&'a str, &'a str)];

    fn of(files: Files<'_>) -> impl Fn(&str) -> Option<String> {
        move |path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        let limit = |groups, files: Files<'_>| lowest_limit(groups, &of(files));
        let two = [
            ("/sys/fs/cgroup/system.slice/memory.max", "805306368\n"),
            ("/sys/fs/cgroup/system.slice/sync.service/memory.max", "max\n"),
        ];
        assert_eq!(limit("0::/system.slice/sync.service\n", &two), Some(768 << 20));
        let one = [("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "536870912\n")];
        assert_eq!(limit("9:name=systemd:/\n4:memory:/docker/a\n0::/\n", &one), Some(512 << 20));
        let container = [("/sys/fs/cgroup/memory.max", "1024\n")];
        assert_eq!(limit("0::/\n", &container), Some(1024));
        assert_eq!(limit("0::/../outside\n", &container), Some(1024));
        assert_eq!(limit("", &[]), None);
        assert_eq!(limit("nonsense\n4:cpu:/\n", &container), None);
    }

    #[test]
    fn processes_that_ended_for_memory_are_counted_in_each_group() {
        let service = "/sys/fs/cgroup/system.slice/sync.service/memory.events";
        let files = [
            (service, "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
            ("/sys/fs/cgroup/system.slice/memory.events", "oom_kill 7\n"),
        ];
        let found = counts("0::/system.slice/sync.service\n", &of(&files));
        let found: Vec<_> =
            found.iter().map(|count| (count.file.as_str(), count.own, count.processes)).collect();
        assert_eq!(found, [(service, true, 2), (files[1].0, false, 7)]);
        let one = [(
            "/sys/fs/cgroup/memory/docker/a/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
        )];
        let found = counts("4:memory:/docker/a\n0::/\n", &of(&one));
        assert_eq!((found.len(), found[0].own, found[0].processes), (1, true, 5));
        let container = [("/sys/fs/cgroup/memory.events", "oom_kill 1\n")];
        assert!(counts("0::/../outside\n", &of(&container))[0].own);
        let old_kernel = [("/sys/fs/cgroup/memory/memory.oom_control", "under_oom 0\n")];
        assert_eq!(counts("4:memory:/\n", &of(&old_kernel)), []);
    }
}
