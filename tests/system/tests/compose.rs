//! The compose file, really started from the real Dockerfile: it works, it survives a restart and the death of each
//! container's main process, and the books and the balance are intact afterwards.
//!
//! Building four static programs takes minutes, so this runs only when asked for:
//! `ATM_SYSTEM_TESTS=1 cargo test --workspace --test compose`. `.ci/run` does so, and sets ATM_REQUIRE_DOCKER=1,
//! with which a missing engine is an error. The project has a name, ports and image tags of its own, so that a bank
//! that somebody runs from this directory is left alone.

use std::collections::BTreeSet;
use std::process::Command;

use atm_system_tests::{atm_cli, free_ports, insist, repository, skip, succeeds, wait_for};
use serde_json::Value;

const SERVICES: [&str; 3] = ["auth", "ledger", "gateway"];

#[test]
fn the_composed_bank_keeps_its_books_through_restart_and_kill() {
    let Some(bank) = ComposedBank::start() else { return };
    let mut withdrawn = 0;
    let mut withdraw = |bank: &ComposedBank, after: &str| {
        withdrawn += 1000;
        let answer = bank.atm(&["withdraw", "1000", "--card", "123456789"]);
        assert_eq!(answer["status"], "captured", "after {after}: {answer}");
        assert_eq!(answer["balance"], format!("{}.00", 10_000 - withdrawn), "after {after}: {answer}");
    };

    withdraw(&bank, "the start");
    bank.check_confinement();

    bank.compose(&["restart"]);
    bank.wait_until_healthy();
    withdraw(&bank, "a restart of all containers");

    for service in SERVICES {
        bank.kill_main_process(service);
        bank.wait_until_healthy();
        withdraw(&bank, &format!("the death of {service}"));
    }

    // The whole of `init` again: nothing may be posted twice, and no secret may change.
    bank.compose(&["run", "--rm", "-T", "init-secrets"]);
    bank.compose(&["run", "--rm", "-T", "init"]);
    let balance = bank.atm(&["balance", "--card", "123456789"]);
    assert_eq!(balance["balance"], format!("{}.00", 10_000 - withdrawn), "{balance}");

    // Both exit with non-zero when the books do not agree.
    bank.compose(&["run", "--rm", "-T", "admin", "trial-balance"]);
    bank.compose(&["run", "--rm", "-T", "admin", "verify"]);
}

/// A bank started by compose; taken down with its volumes when dropped.
struct ComposedBank {
    /// `docker compose`, or `docker-compose` where the plugin is missing.
    program: Vec<&'static str>,
    project: String,
    /// On the host, in the order of [`SERVICES`].
    ports: [u16; 3],
    /// The journal of the cash machine that talks to it.
    state: tempfile::TempDir,
}

impl ComposedBank {
    fn start() -> Option<Self> {
        const TEST: &str = "the compose test";
        const REQUIRED: &str = "ATM_REQUIRE_DOCKER";
        if std::env::var_os("ATM_SYSTEM_TESTS").is_none() {
            skip(TEST, "it builds images for minutes; set ATM_SYSTEM_TESTS=1 to run it", REQUIRED);
            return None;
        }
        if !succeeds("docker", &["info"]) {
            skip(TEST, "no container engine answers `docker info`", REQUIRED);
            return None;
        }
        let program = if succeeds("docker", &["compose", "version"]) {
            vec!["docker", "compose"]
        } else if succeeds("docker-compose", &["version"]) {
            vec!["docker-compose"]
        } else {
            skip(TEST, "neither `docker compose` nor `docker-compose` is installed", REQUIRED);
            return None;
        };
        insist(&mut Command::new(repository().join(".ci/stand-in-images")));
        let bank = Self {
            program,
            project: format!("atm-system-test-{}", std::process::id()),
            ports: free_ports(),
            state: tempfile::tempdir().expect("a temporary directory can be made"),
        };
        bank.compose(&["up", "-d", "--build"]);
        bank.wait_until_healthy();
        wait_for("init imported the accounts", 240, || bank.ended_well("init"));
        Some(bank)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program[0]);
        command.args(&self.program[1..]).args(["--project-name", &self.project]).args(arguments);
        command.current_dir(repository()).env("ATM_IMAGE_TAG", "system-test");
        for (service, port) in SERVICES.iter().zip(self.ports) {
            command.env(format!("ATM_{}_PORT", service.to_uppercase()), port.to_string());
        }
        command
    }

    fn compose(&self, arguments: &[&str]) -> String {
        insist(&mut self.command(arguments))
    }

    /// Runs the cash machine against this bank and returns the object it printed.
    fn atm(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(atm_cli());
        command.args(arguments).args(["--json", "--gateway", &format!("http://127.0.0.1:{}", self.ports[2])]);
        command.arg("--state").arg(self.state.path()).env("ATM_PIN", "1234");
        let printed = insist(&mut command);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error} in {printed}"))
    }

    /// What the engine knows about the one container of a service, running or not.
    fn inspect(&self, service: &str) -> Value {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let label = format!("label=com.docker.compose.service={service}");
        let id = insist(Command::new("docker").args(["ps", "-aq", "--filter", &project, "--filter", &label]));
        let described = insist(Command::new("docker").args(["inspect", id.trim()]));
        serde_json::from_str::<Value>(&described).expect("docker prints JSON")[0].take()
    }

    fn wait_until_healthy(&self) {
        for service in SERVICES {
            wait_for(&format!("{service} is healthy"), 480, || {
                (self.inspect(service)["State"]["Health"]["Status"] == "healthy").then_some(())
            });
        }
    }

    fn ended_well(&self, service: &str) -> Option<()> {
        let state = &self.inspect(service)["State"];
        if state["Status"] != "exited" {
            return None;
        }
        assert_eq!(state["ExitCode"], 0, "{service} failed:\n{}", self.compose(&["logs", service]));
        Some(())
    }

    /// Kills a container's main process from the host, behind the engine's back, and waits for its successor.
    fn kill_main_process(&self, service: &str) {
        let before = self.inspect(service)["State"]["Pid"].take();
        let pid = before.to_string();
        if !succeeds("kill", &["-9", &pid]) {
            assert!(
                succeeds("sudo", &["-n", "kill", "-9", &pid]),
                "process {pid} of {service} cannot be killed from here: this test wants root on the engine's host"
            );
        }
        wait_for(&format!("{service} was started again after kill -9"), 240, || {
            let state = &self.inspect(service)["State"];
            (state["Running"] == true && state["Pid"] != before).then_some(())
        });
    }

    /// What docker-compose.yml promises about each container, asked of the engine.
    fn check_confinement(&self) {
        for service in SERVICES {
            let container = self.inspect(service);
            let host = &container["HostConfig"];
            assert_eq!(host["ReadonlyRootfs"], true, "{service}: root file system");
            assert!(host["Memory"].as_u64().is_some_and(|bytes| bytes > 0), "{service}: memory limit");
            assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped", "{service}: restart policy");
            assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{service}: capabilities");
            assert_eq!(container["Config"]["User"], "10001:10001", "{service}: user");
            let published = host["PortBindings"].as_object().expect("ports are published");
            let addresses: BTreeSet<_> =
                published.values().map(|port| port[0]["HostIp"].to_string()).collect();
            assert_eq!(addresses, BTreeSet::from(["\"127.0.0.1\"".to_owned()]), "{service}: published on");
        }
    }
}

impl Drop for ComposedBank {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(logs) = self.command(&["logs", "--no-color", "--tail", "60"]).output()
        {
            eprintln!("{}", String::from_utf8_lossy(&logs.stdout));
        }
        let down = self.command(&["down", "--volumes", "--remove-orphans"]).output();
        if !down.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("project {} could not be taken down: {down:?}", self.project);
        }
    }
}
