//! The kinds of trouble.

use kv_core::Durability;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stroke {
    /// The server is killed and started again; of a cluster, all members at once.
    Kill,
    /// The server ends as an operator ends it, and is started again; of a cluster, all members.
    Stop,
    /// The server stands still for a while; of a cluster, all members.
    Pause,
    /// A copy of the server's data is put in the place of what it has now.
    Restore,
    /// Clients lose their connections, and get no new ones for a while.
    Cut,
    /// Clients lose their connections, and get new ones.
    Reset,
    /// Nothing passes between clients and server for a while.
    Freeze,
    /// Requests do not arrive for a while.
    LoseRequests,
    /// Requests arrive, and their answers do not, for a while; then all goes on.
    HoldAnswers,
    /// A request arrives and is done; its answer is lost.
    LoseAnswer,
    /// The connections that there are carry nothing any more; new ones work.
    Strand,
    /// Everything is late.
    Slow,
    /// Something between clients and server takes connections, and ends each at its first request.
    HangUp,
    /// Something between answers for the server, whatever that speaks: `200` of HTTP, with a page.
    Page,
    /// Something between answers for the server: `404`.
    NotFound,
    /// Something between answers for the server: `403`.
    Forbidden,
    /// Something between answers for the server: `429`.
    TooMany,
    /// Another tool writes names and types of data that are none of ours between our keys, and
    /// takes them away again.
    Foreign,
    /// The server has no room for further writes for a while.
    Full,
    /// The server takes no further connections for a while.
    Crowded,
    /// The server's wall clock jumps, and jumps back.
    Clock,
    /// Clients may not write for a while.
    Rights,
    /// The clients' credentials are not accepted for a while.
    Credentials,
    /// The records that the store keeps beside the values (numbers, notes, the queues and records
    /// of locks) make no sense for a while: another tool wrote over them, and puts them back.
    Damage,
    /// All certificates are replaced, that of the CA too: the server starts with its new ones a
    /// while before clients have theirs.
    Certificates,
    /// The member that leads is killed and started again.
    KillLeader,
    /// A member is killed and started again.
    KillMember,
    /// A member stands still for a while.
    PauseMember,
    /// The member that leads is cut off from its peers, and not from its clients.
    CutOffLeader,
    /// A member is cut off from its peers, and not from its clients.
    CutOffMember,
    /// A member's messages to its peers are lost; theirs arrive.
    OneWay,
    /// A member that has writes is killed, and another takes its place.
    Failover,
    /// A process that is a client is killed, by a workload that has such processes, not by the
    /// nemesis.
    KillClient,
    /// A process that is a client stands still for a while, by such a workload too.
    PauseClient,
}

use Stroke::*;

/// All that the nemesis of a round can do, with their names.
pub const ALL: &[(Stroke, &str)] = &[
    (Kill, "kill"),
    (Stop, "stop"),
    (Pause, "pause"),
    (Restore, "restore"),
    (Cut, "cut"),
    (Reset, "reset"),
    (Freeze, "freeze"),
    (LoseRequests, "lose-requests"),
    (HoldAnswers, "hold-answers"),
    (LoseAnswer, "lose-answer"),
    (Strand, "strand"),
    (Slow, "slow"),
    (HangUp, "hang-up"),
    (Page, "page"),
    (NotFound, "not-found"),
    (Forbidden, "forbidden"),
    (TooMany, "too-many"),
    (Foreign, "foreign"),
    (Full, "full"),
    (Crowded, "crowded"),
    (Clock, "clock"),
    (Rights, "rights"),
    (Credentials, "credentials"),
    (Damage, "damage"),
    (Certificates, "certificates"),
    (KillLeader, "kill-leader"),
    (KillMember, "kill-member"),
    (PauseMember, "pause-member"),
    (CutOffLeader, "cut-off-leader"),
    (CutOffMember, "cut-off-member"),
    (OneWay, "one-way"),
    (Failover, "failover"),
];

impl Stroke {
    /// Returns its name in lower case, words joined by `-`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KillClient => "kill-client",
            PauseClient => "pause-client",
            other => ALL.iter().find(|(stroke, _)| *stroke == other).map_or("", |(_, name)| name),
        }
    }

    /// Tells whether [`Troubles`](crate::Troubles) bring it about, each in the way of its server.
    #[must_use]
    pub fn is_the_servers(self) -> bool {
        matches!(
            self,
            Full | Crowded
                | Clock
                | Rights
                | Credentials
                | Damage
                | Certificates
                | KillLeader
                | KillMember
                | PauseMember
                | CutOffLeader
                | CutOffMember
                | OneWay
                | Failover
        )
    }

    /// Tells whether something between clients and server answers in the place of the server.
    pub(super) fn is_answer(self) -> bool {
        matches!(self, HangUp | Page | NotFound | Forbidden | TooMany)
    }

    /// Tells whether it meets the server, and not links. Of two strokes at once, one meets the
    /// server and one meets links.
    pub(super) fn is_on_server(self) -> bool {
        matches!(self, Kill | Stop | Pause | Restore | Foreign) || self.is_the_servers()
    }

    /// Tells whether acknowledged writes may be gone after it.
    #[must_use]
    pub fn may_lose(self, durability: Durability) -> bool {
        // A member that stands still, or is cut off, for so long that it is missed loses its
        // place, as one that is killed does.
        let takes_places = self.stops_members() && !matches!(self, Stop | Pause | Certificates);
        self == Restore || takes_places && durability == Durability::MayLose
    }

    /// Tells whether servers do not do their work meanwhile, so that what ends by time ends later:
    /// the leader that comes then grants it anew.
    #[must_use]
    pub fn stops_members(self) -> bool {
        let of_one = matches!(self, Kill | Stop | Pause | Restore | Certificates);
        let of_cluster = matches!(
            self,
            KillLeader | KillMember | PauseMember | CutOffLeader | CutOffMember | OneWay | Failover
        );
        of_one || of_cluster
    }

    /// Tells whether the server refuses clients meanwhile with errors that are lasting elsewhere:
    /// calls may fail with [`PermissionDenied`](kv_core::ErrorKind::PermissionDenied) or
    /// [`Unauthenticated`](kv_core::ErrorKind::Unauthenticated), and watches end by it.
    #[must_use]
    pub fn denies(self) -> bool {
        matches!(self, Rights | Credentials)
    }

    /// Tells whether records of the store's own cannot be read meanwhile: calls may fail with
    /// [`Corrupt`](kv_core::ErrorKind::Corrupt), and watches end by it.
    #[must_use]
    pub fn damages(self) -> bool {
        self == Damage
    }

    /// Tells whether what ends by the server's wall clock may end at any moment.
    #[must_use]
    pub fn moves_time(self) -> bool {
        self == Clock
    }

    /// Tells whether it takes seconds to put right, so that it falls in rounds of its own, further
    /// apart.
    #[must_use]
    pub fn is_slow(self) -> bool {
        matches!(self, Restore | Failover)
    }
}
