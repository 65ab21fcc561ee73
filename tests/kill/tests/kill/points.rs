//! The fault points of the services, from their sources, and how each is reached.

use std::path::{Path, PathBuf};

use atm_lab::scenario::Victim;

const MARK: &str = "fault_point!(\"";

/// Points that cash machines on one computer do not reach, and where they are tried instead.
pub(crate) const ELSEWHERE: [(&str, &str); 2] = [
    ("LEDGER_TOMBSTONE_MET_THE_REQUEST", "needs a network that delivers a request after its cancel: atm-sim"),
    ("LEDGER_REPEATED_WITHIN_ONE_BATCH", "needs a network that delivers a request twice at once: atm-sim"),
];

/// A fault point of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) victim: Victim,
    pub(crate) name: String,
}

/// How a service comes to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By what machines do all the time.
    Traffic,
    /// When it starts.
    Start,
    /// Because it died at another point, so that an answer was lost that is asked for again.
    Lost(&'static str),
    /// The same, and the answer was a refusal.
    LostRefusal(&'static str),
    /// Because the ledger is away.
    WithoutLedger,
    /// Because it is told to end in good order.
    Terminated,
    /// Because a machine signs on with an older copy of its disks.
    Twin,
}

impl Point {
    pub(crate) fn way(&self) -> Way {
        match self.name.as_str() {
            "LEDGER_BEFORE_REPLAY" | "LEDGER_REPLAYED" => Way::Start,
            "LEDGER_ANSWERED_AGAIN" => Way::Lost("LEDGER_COMMITTED"),
            "LEDGER_DECLINED_AGAIN" => Way::LostRefusal("LEDGER_BEFORE_ANSWER"),
            "LEDGER_BEFORE_CHECKPOINT" | "LEDGER_CHECKPOINTED" => Way::Terminated,
            "GATEWAY_BEFORE_SECOND_ATTEMPT" => Way::WithoutLedger,
            "AUTH_ATTEMPT_ANSWERED_AGAIN" => Way::Lost("AUTH_ATTEMPT"),
            "AUTH_STALE_BOOT" => Way::Twin,
            _ => Way::Traffic,
        }
    }
}

/// Every fault point of a service that can be reached here.
pub(crate) fn of_services() -> Vec<Point> {
    let mut points = Vec::new();
    let services = [(Victim::Auth, "auth"), (Victim::Ledger, "ledger"), (Victim::Gateway, "gateway")];
    for (victim, service) in services {
        let sources =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../services").join(service).join("src");
        scan(&sources, &mut |name| points.push(Point { victim, name: name.to_owned() }));
    }
    for (elsewhere, _) in ELSEWHERE {
        let known = points.len();
        points.retain(|point| point.name != elsewhere);
        assert!(points.len() < known, "{elsewhere} is no point any more");
    }
    points.sort_by(|a, b| a.name.cmp(&b.name));
    points
}

fn scan(directory: &Path, found: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scan(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            text.split(MARK).skip(1).for_each(|piece| found(piece.split('"').next().unwrap()));
        }
    }
}
