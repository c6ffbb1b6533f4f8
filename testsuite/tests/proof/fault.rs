//! The faults, what each does, and the cases that it must make red.

use crate::wire::Fault as Net;

/// Makes the enum of faults, and their table.
macro_rules! faults {
    ($($name:ident, $does:literal: $($case:literal)*;)*) => {
        /// One broken promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            /// None: the control, on which every case is green.
            None,
            $(#[doc = $does] $name,)*
        }

        /// Every fault, what it does, and the cases that it must make red.
        pub(crate) const FAULTS: &[(Fault, &str, &[&str])] = &[$((Fault::$name, $does, &[$($case),*]),)*];
    };
}

faults! {
    // Names and directories
    FoldsCase, "names that differ in case are one key": "key.normalised/nothing-more";
    DecodesNames, "`%20` and a space are one name": "key.refused/nothing-else";
    SiblingsAreListed, "a listing of `app` shows `application`": "dir.segments/list" "list/missing" "within/apart";
    SiblingsAreDeleted, "delete_tree of `app` deletes `application`": "dir.segments/delete_tree" "delete_tree/below" "delete_tree/missing";
    SiblingsAreWatched, "a watch of `app` tells of `application`": "dir.segments/watch_tree" "dir.segments/watch-siblings" "within/watches";
    ListsItself, "a listing of `d` shows the key `d`": "dir.segments/list";
    DeletesItself, "delete_tree of `d` deletes the key `d`": "dir.segments/delete_tree";
    WatchesItself, "watch_tree of `d` tells of the key `d`": "dir.segments/watch-tree";
    WatchesBelowTheKey, "a watch of the key `k` tells of `k/x`": "dir.segments/watch-key";
    DirectoriesAreKeys, "a directory without a value is a key": "dir.free/parent" "get/missing" "key.normalised/answers" "key.normalised/directories";
    RefusesChildrenOfKeys, "a key cannot have children": "dir.free/any-order" "dir.free/expiring";
    DropsChildrenOfReplaced, "a put drops the key's children": "dir.free/any-order" "dir.free/empty-value";
    DeletesBelow, "a delete drops the key's children": "dir.free/delete-parent";
    IgnoresPrefix, "every prefix sees the whole server": "key.isolated/prefixes";
    ListsInternals, "what the backend keeps for itself is listed": "key.isolated/internals";
    DeleteTreeFreesLocks, "delete_tree of the root deletes locks": "key.isolated/delete_tree" "lock.value/apart" "key.isolated/nested";
    ShowsLocksAsData, "a lock is a key among the data": "key.isolated/watch-internals" "lock.value/apart";
    AliasesForeignNames, "another tool's `a/` reads as the key `a`": "foreign.skipped/names";
    ReservesByText, "what begins with `.kv` is taken for the library's own, and not told": "key.reserved/segment";
    PrefixesAreText, "a prefix without a slash is text: `app` has what begins so": "key.isolated/segment";
    WatchesKnowNoNames, "watches of one server tell what happens in the other of the same prefix": "key.isolated/dimension";
    LeavesOutInSilence, "a listing does not tell the names that it leaves out": "foreign.skipped/told";
    SkipsLongNames, "names of more than 512 bytes are not listed": "foreign.names/long";
    HidesForeignKeys, "a key that another tool made is never listed": "value.native/adopt" "value.native/first-write" "data.valkeyrie/read";
    // Values and versions
    EncodesValues, "values are stored in a form of the library's own": "value.native/ours" "value.native/theirs" "key.isolated/bytes";
    CutsValuesAtZero, "a value ends at its first zero byte": "value.bytes/any";
    CutsLargeValues, "a value ends at 64 KiB": "value.bytes/256k" "value.bytes/greatest" "list/large-values";
    CountsTheFenceTwice, "a fenced put takes smaller values": "value.bytes/fenced";
    KeysFillTransactions, "a transaction has no room for a key beside the greatest value": "value.bytes/fenced" "capabilities.complete/sound";
    ReadsValuesAsText, "values are read as UTF-8": "value.bytes/any";
    EmptyIsMissing, "an empty value reads as a missing key": "value.bytes/empty" "dir.free/empty-value";
    KeepsVersionOfSameBytes, "a put of the same bytes keeps the version": "version.opaque/same-bytes" "version.opaque/every-write" "atomic_put/one-winner";
    VersionsRestart, "versions start again when a key is made anew": "version.opaque/remade" "version.opaque/remade-by-another" "version.opaque/as-often";
    VersionsFall, "newer versions are smaller": "version.opaque/order" "version.opaque/read";
    AnswersALaterVersion, "a put answers with the version of a later write": "error.unknown/dropped" "version.opaque/read" "version.opaque/text" "version.opaque/at-once" "put/answer" "update/answer";
    // Calls
    AnswersStale, "a get answers with what was there before the last put": "get/latest" "get/stale" "put/last-wins" "model.sequences";
    TearsReads, "a get gives the value of one write and the version of another": "get/one-write";
    MissingIsAnError, "a missing key is an error": "get/missing" "error.honest/missing";
    AnswersManyInOrderOfKeys, "get_many answers in an order of its own": "get_many/order" "get_many/many";
    AnswersManyWithoutMissing, "get_many leaves missing keys out": "get_many/order";
    NeverReplaces, "a put leaves an existing key as it is": "put/answer" "put/last-wins";
    SwallowsDeepPuts, "a put of a deep key is reported and not done": "key.refused/longest" "dir.free/nothing-left" "model.sequences";
    DeleteIsAlwaysTrue, "delete says that the key was there": "delete/answer" "delete/at-once";
    ExistsForDirectories, "a directory exists": "exists/answer";
    AcceptsStaleVersions, "a stale version matches": "atomic_put/replace" "atomic_put/gone" "atomic_put/other-key" "version.opaque/remade-tree" "ttl.goes/remade";
    CreatesOverExisting, "atomic_put with no version replaces": "atomic_put/create" "key.normalised/calls";
    ComparesThenWrites, "a compare-and-swap compares, and then writes": "atomic_put/create-race" "atomic_put/counter" "atomic_put/one-winner" "atomic_delete/race" "update/counted";
    ExistsReadsAsModified, "KeyExists is reported as KeyModified": "atomic_put/create" "error.honest/kinds" "error.honest/names" "observer/calls";
    ModifiedReadsAsExists, "KeyModified is reported as KeyExists": "atomic_put/replace" "error.honest/kinds";
    NamesItsRequests, "an error names the request to the server in place of the call": "error.operation/calls" "error.honest/names";
    ModifiedReadsAsUnavailable, "a conflict is reported as an outage": "error.honest/kinds";
    RefusedPutsRewrite, "a put that is refused writes what is there anew": "watch.delta/failed-writes" "ttl.replaced/refused-put";
    TimesOutAfterWriting, "a write that happened is reported as one that took no effect": "error.unknown/cut-off";
    WritesTwice, "a write is sent again": "ttl.never_early/put" "clock.assumed/one-measure";
    DeletesAnyVersion, "atomic_delete deletes any version": "atomic_delete/version";
    DeletesGoneVersion, "atomic_delete of a missing key succeeds": "atomic_delete/version";
    ListsBackwards, "a listing is in descending order": "list/order" "list/left";
    OrdersDirectoriesByName, "a directory is listed right behind the key of its name": "list/children";
    ListsOnlyThePage, "a listing ends with its first page": "list/pages" "transact/too-many";
    RepeatsAtPageBorders, "a page begins with the end of the one before": "list/pages";
    SkipsAtPageBorders, "a page leaves out its last key": "list/pages" "list/large-values";
    ChildrenAreRecursive, "a listing of children goes deeper": "list/children" "list/children-deep";
    HidesDirectories, "a listing of children leaves directories out": "list/children";
    StartAfterIsIgnored, "a listing begins at its beginning": "list/start-after" "list/start-after-children" "within/calls";
    KeysOnlyGivesOnlyTheFirst, "a listing of keys gives one": "list/keys-only" "list/limit" "list/concurrent";
    CursorsLeadOutside, "a cursor leads out of the directory": "list/cursor" "delete_tree/cursor";
    MissingDirectoryIsAnError, "a listing of a missing directory is an error": "list/missing";
    DeclaresOneMoment, "a listing of pages claims to be of one moment": "list/one-moment";
    DeletesKeyByKey, "delete_tree claims to be one step, and deletes key by key": "delete_tree/atomic";
    DeletesOneLevel, "delete_tree deletes only the children": "delete_tree/below" "delete_tree/many" "delete_tree/again" "dir.segments/root";
    MiscountsDeleted, "delete_tree counts wrongly": "delete_tree/count";
    TearsTransactions, "the first write of a transaction happens in any case": "transact/refused" "transact/race";
    TakesLessThanItDeclares, "a transaction takes fewer bytes than declared": "transact/too-large";
    TransactChecksThenWrites, "a transaction checks its conditions, and then writes": "transact/transfer" "transact/race" "update.exactly_once/counted";
    TransactIgnoresConditions, "a transaction happens whatever its conditions say": "transact/refused" "transact/conditions" "transact/race" "transact/own-writes" "update.exactly_once/lost";
    TransactGivesOneVersion, "a transaction answers with versions that its keys do not have": "transact/commit" "version.opaque/every-write";
    TransactForgetsTtls, "a put in a transaction has no TTL": "ttl.replaced/every-put" "lease.alive/every-put";
    TransactRefusesParents, "a transaction cannot write a key and its child": "transact/parents";
    TransactRefusesMissing, "a transaction cannot delete a missing key": "transact/delete-missing";
    MiscountsConditions, "a refused transaction names the wrong condition": "transact/refused" "transact/steps" "transact/read-only" "within/transactions";
    RefusesWhatItDeclares, "declared leases, locks and transactions are Unsupported": "capabilities.complete/lease" "capabilities.complete/lock" "capabilities.complete/transact";
    ClosesForAll, "closing one client closes the others": "close/alone";
    HealthFails, "health is declared, and fails": "capabilities.complete/health";
    HealthTellsNothing, "health knows no version of the server": "health/answer";
    // Expiry
    IgnoresTtl, "a TTL is ignored": "ttl.goes/everywhere" "ttl.goes/event" "capabilities.complete/ttl";
    IgnoresTtlOfAtomicPut, "a TTL of a compare-and-swap is ignored": "ttl.replaced/every-put" "update/options";
    TellsNoTtl, "a put does not answer with the TTL": "ttl.refused/rounded" "capabilities.complete/ttl";
    ExpiresEarly, "a key goes before its TTL": "ttl.never_early/put" "ttl.never_early/raced" "ttl.replaced/anew" "ttl.replaced/refused-put" "clock.assumed/one-measure";
    ExpiresSomeEarly, "now and then a key goes before its TTL": "ttl.never_early/many";
    RefusesLongTtls, "a TTL within the declared range is refused": "ttl.refused/greatest";
    ExpiresLate, "a key goes later than declared": "ttl.goes/everywhere" "ttl.goes/event" "ttl.goes/tree" "ttl.goes/parent";
    KeepsTheOldTtl, "a put without a TTL keeps the old one": "ttl.replaced/permanent" "ttl.replaced/deleted";
    KeepsTheOldLease, "a put without a lease keeps the old one": "lease.alive/moved" "lease.alive/deleted";
    ExpiredStillCount, "a key past its TTL still counts in conditions": "ttl.goes/everywhere" "ttl.goes/remade";
    LeaseForgetsKeys, "keys under a lease outlive it": "lease.alive/revoke" "lease.alive/killed" "watch.gapless/lease";
    LeaseIsNotKeptAlive, "a lease is not renewed": "lease.alive/renewed";
    LeaseIsLostAtOnce, "a lease that lives is reported as lost": "lease.alive/renewed";
    RevokeLeavesKeys, "revoking a lease leaves its keys": "lease.alive/revoke" "lease.alive/drop" "lease.alive/two" "lease.alive/over" "lease.alive/revoke-event" "close/waits";
    LeaksLeases, "a call for a lease that was given up goes on and keeps the lease": "lease.alive/cancelled";
    SweepsEmptyLeases, "a lease is revoked when its last key goes": "lease.alive/emptied" "lease.alive/race";
    GrantsLess, "a lease tells a TTL that was not granted": "lease.alive/granted";
    // Watches
    ShowsNoSnapshot, "a watch begins with changes": "watch.snapshot/tree" "watch.snapshot/key" "watch.snapshot/many";
    NeverSynced, "a watch never says that it is in sync": "watch.snapshot/absent-key" "watch.snapshot/absent-directory" "capabilities.complete/watch";
    SyncedComesFirst, "a watch says that it is in sync before it has told what is there": "watch.snapshot/tree";
    RefusesToWatchWhatIsNotThere, "what is not there cannot be watched": "watch.snapshot/absent-key" "watch.snapshot/absent-directory" "key.isolated/watch-prefix";
    EndsAfterSynced, "a watch ends behind what is there": "watch.gapless/delete" "close/watches";
    ListsBeforeItSubscribes, "a watch misses what is written while it starts": "watch.gapless/startup";
    DropsAChange, "a watch drops a change": "watch.gapless/writers" "watch.gapless/startup" "watch.gapless/dropped-reads";
    SkipsStates, "a watch that claims to tell each change skips what was overtaken": "watch.each_change/burst";
    DropsNewKeys, "a watch misses keys that are made": "watch.gapless/writers" "watch.gapless/recreate" "watch.gapless/root" "watch.gapless/transaction";
    DropsDeletes, "a watch misses deletions": "watch.gapless/delete" "watch.gapless/delete-tree" "watch.gapless/expiry";
    DropsExpiry, "a watch misses expiry": "watch.gapless/expiry" "ttl.goes/event";
    DropsEmptyValues, "a watch misses empty values": "value.bytes/watch";
    EmptiesValues, "a watch gives no values": "watch.snapshot/key";
    MissesSameBytes, "a watch misses a put of the same bytes": "watch.order/rewrite" "lock.set_value/watched";
    RelistsAtEachChange, "a change costs an event for every key": "watch.delta/put" "watch.delta/delete";
    TellsTwice, "a watch tells a change twice": "watch.order/versions" "watch.delta/put" "watch.gapless/dropped-reads";
    TellsOutOfOrder, "a watch tells a newer version first": "watch.order/versions";
    TellsKeysOutOfOrder, "a watch tells changes of different keys in another order": "watch.tree_order/commits";
    GoesBackWhenSynced, "a watch that has read what is there tells what was there before": "watch.order/holder_churn" "watch.order/ttl_churn";
    TellsFalseEnds, "a watch that has read what is there tells that it is gone": "watch.order/holder_churn" "watch.order/ttl_churn";
    DeletesAtAnOldVersion, "a deletion carries a version older than what was told": "watch.order/versions";
    SlowReaderBlocksWriters, "a slow reader holds back writers": "watch.bounded/slow-reader";
    WatchesFewOnly, "a handle has at most 100 watches": "watch.many/at-once";
    // Locks
    LetsTwoIn, "a lock lets a second holder in now and then": "lock.exclusive/contenders" "lock.exclusive/tries" "lock.fair/try";
    IsReentrant, "who holds a lock gets it again": "lock.per_guard/same-handle";
    TryWaits, "try_acquire waits": "lock.cancel/try" "lock.fair/try";
    WaitsAreRefused, "acquire does not wait": "lock.per_guard/same-handle" "lock.known_loss/owns-nothing";
    RepeatsTokens, "every acquisition has the same token": "lock.fenced/token";
    TokensFall, "tokens fall": "lock.fenced/token";
    IgnoresFences, "a write is done although the lock is lost": "lock.fenced/released" "lock.fenced/taken" "lock.fenced/closed" "lock.break/lost" "transact/fenced";
    FencesAlwaysFail, "a write that depends on a lock is refused while it is held": "lock.fenced/held";
    BelievesForEver, "a guard never knows its loss": "lock.exclusive/renewed" "lock.break/lost";
    LosesItAtOnce, "a guard is reported as lost while it is held": "lock.exclusive/renewed";
    IsNotKeptAlive, "a lock is not renewed": "lock.exclusive/renewed";
    IsUnfair, "waiters get the lock in any order": "lock.fair/order";
    LeaksCancelled, "an acquisition that was given up goes on and keeps the lock": "lock.cancel/free" "lock.cancel/waiting" "lock.cancel/beside-calls" "lock.cancel/aborted" "lock.cancel/within" "lock.cancel/beside_a_holder";
    LeavesItsPlace, "an acquisition that was given up keeps its place until the handle is closed": "lock.cancel/free" "lock.cancel/waiting" "lock.cancel/beside-calls" "lock.cancel/aborted" "lock.cancel/within" "lock.cancel/beside_a_holder";
    ForgetsToRelease, "a released lock stays held": "lock.cancel/released" "lock.cancel/dropped-guard" "lock.known_loss/closed" "close/locks";
    ReleaseIsNeverTrue, "release says that the lock was lost": "lock.cancel/released" "lock.per_guard/names";
    FreesLate, "a dead holder's lock is free later than declared": "lock.freed/killed";
    FreesEarly, "a dead holder's lock is free before its TTL": "lock.freed/not-early";
    ForgetsTheHoldersValue, "the holder's value is lost": "lock.value/read";
    NamesNoHolder, "lock_holder names nobody": "lock.value/read" "key.normalised/lock" "within/locks";
    HidesHolders, "a watch of the holder never tells one": "lock.value/watched";
    MissesTheEndOfHolding, "a watch of the holder misses the release": "lock.value/watched";
    KeepsTheFirstValue, "the holder's value does not change": "lock.set_value/read" "lock.set_value/watched";
    ChangesAtOneVersion, "a changed value of a holder has the version of the first": "lock.set_value/read" "lock.set_value/watched";
    ChangesForOthers, "a lost lock changes the value of its next holder": "lock.set_value/lost";
    ForgetsTheChange, "a renewal brings the holder's first value back": "lock.set_value/kept";
    BreaksNothing, "a lock that is taken from its holder stays with it": "lock.break/token" "lock.break/lost";
    BreaksAnyToken, "a lock is taken from its holder by any token": "lock.break/other";
    ListsLocksBeside, "a listing of the locks below a directory has all locks": "lock.list/held";
    ListsFreeLocks, "a listing of locks has those that nobody holds": "lock.list/held";
    SkipsLocks, "a listing of locks leaves some out": "lock.list/many";
    CountsNobodyInLine, "a listing of locks counts nobody in line": "lock.list/waiters";
    // Handles and their ends
    GivesBackLater, "what is given back is gone a moment later": "close.gives_back/dropped_meanwhile";
    LivesInTheFirstRuntime, "watches work as long as the runtime that first used the handle": "runtime.outlived/opened" "runtime.outlived/first_used" "runtime.outlived/held";
    ReadsInTheFirstRuntime, "watches are read in the runtime that first used the handle, and stand still with it": "runtime.outlived/stands_still";
    QueuesAllRuntimes, "reads of all runtimes share the places of those that are under way": "runtime.outlived/stands_still";
    HangsOnTheFirstRuntime, "a lock is renewed in the runtime that first used the handle, whatever became of its own": "runtime.outlived/dropped";
    ForgetsWhatWasCut, "what was being given back when its runtime ended is forgotten": "close.gives_back/cut_off";
    // Full servers
    FullIsAnyError, "a server that is full fails somehow": "server.full/writes";
    FullRefusesRemovals, "a server that is full deletes nothing": "server.full/room" "server.full/opened" "server.full/watches";
    FullCannotBeOpened, "a server that is full cannot be opened": "server.full/opened";
    FullRenewsNothing, "a server that is full renews nothing": "server.full/holding";
    // The rest
    CapabilitiesDiffer, "what a store can do differs from client to client": "capabilities.complete/sound";
    ShowsBadUrls, "an error shows the URL that was refused": "open.checked/bad-url";
    IgnoresUnknownParameters, "a mistyped parameter of the URL is ignored": "open.checked/parameter";
    IgnoresTheUrlsPath, "the path of the URL is no prefix": "open.checked/url";
    OpensAnyScheme, "a URL of another store is opened as if it were one of this": "open.checked/own-scheme";
    WaitsForTheUnpolled, "a call waits for those before it, polled or not": "error.deadline/unpolled" "error.deadline/unpolled-ttl";
    ShowsItsPassword, "the store's Debug shows a password": "error.secret/debug";
}

/// Every fault over a network, what it does, and the cases that it must make red.
pub(crate) const NET_FAULTS: &[(Net, &str, &[&str])] = &[
    (
        Net::TakesOutagesForRefusals,
        "a wait for a lock ends with an outage",
        &["lock.survives/outage", "lock.cancel/lost-place", "outage.intermediary/waiting"],
    ),
    (
        Net::TrustsTheCounter,
        "a watch takes for granted that versions only go up",
        &["watch.gapless/restored"],
    ),
    (
        Net::BelievesIntermediaries,
        "what something else answers is taken for the server's word",
        &[
            "outage.intermediary/calls",
            "outage.intermediary/watches",
            "outage.intermediary/odd_names",
            "outage.intermediary/holding",
        ],
    ),
    (
        Net::RetriesBlindly,
        "a write whose answer is lost is sent again",
        &[
            "error.unknown/lost-reply",
            "error.unknown/never-twice",
            "error.honest/lost-transaction",
            "update/lost-reply",
            "update.exactly_once/lost-reply",
        ],
    ),
    (
        Net::LostReplyIsConflict,
        "a write whose answer is lost is reported as a conflict",
        &["error.honest/lost-reply", "update/lost-reply"],
    ),
    (
        Net::LostReplyIsSuccess,
        "a write whose answer is lost is reported as a success",
        &["error.honest/lost-reply", "error.unknown/lost-reply", "error.unknown/frozen"],
    ),
    (
        Net::EndsOnOneLink,
        "what was begun on a connection that is lost since is not ended",
        &["lease.alive/revoked-after-cut"],
    ),
    (
        Net::AnswersForRepeats,
        "what is given back twice, because the first answer was lost, is said not to have been held",
        &["lock.release/lost_answer", "lease.revoke/lost_answer"],
    ),
    (Net::VersionsAtSending, "a put has a version made when it was sent", &["version.opaque/late"]),
    (
        Net::DownIsMissing,
        "what cannot be read is reported as missing",
        &[
            "error.honest/link-cut",
            "error.honest/server-down",
            "error.unknown/refused",
            "error.unknown/server-down",
        ],
    ),
    (
        Net::WatchForgetsOutage,
        "a watch forgets what happened in an outage",
        &["watch.gapless/outage", "watch.gapless/restart", "watch.order/outage"],
    ),
    (
        Net::WatchEndsAtCut,
        "a watch ends with its connection",
        &["watch.survives/cut", "watch.survives/dead-link", "watch.survives/restart", "watch.survives/kill"],
    ),
    (
        Net::LosesLockAtFirstFailure,
        "a lock is lost with the first renewal that fails",
        &["lock.known_loss/one-failure", "lease.alive/short-cut"],
    ),
    (Net::RenewsLikeACall, "a renewal has the deadline of the handle", &["lease.alive/short-deadline"]),
    (
        Net::BelievesInLockForever,
        "a lock or lease is never lost",
        &[
            "lock.known_loss/frozen",
            "lock.known_loss/told",
            "lock.exclusive/cut-off",
            "lock.freed/lost",
            "lease.alive/cut-off",
        ],
    ),
    (Net::IgnoresDeadline, "calls wait for their answers for ever", &["error.deadline/store"]),
    (
        Net::ReadsOnce,
        "a read is not asked again when its connection is cut",
        &["error.unknown/read-retried", "error.unknown/read-after-cut"],
    ),
    (
        Net::ConnectsInCalls,
        "a connection is made by the call that needs it, polled or not",
        &["error.deadline/unpolled-outage"],
    ),
    (
        Net::TrustsSilence,
        "a silent connection is trusted for ever",
        &["watch.survives/dead-link", "lease.alive/dead-link"],
    ),
    (
        Net::WatchEndsAtSilence,
        "a watch ends when nothing comes for a moment",
        &["watch.survives/freeze", "watch.survives/pause"],
    ),
    (Net::WatchNeedsTheServer, "a watch cannot begin while the server is away", &["watch.survives/begun"]),
    (Net::NeverUnwatches, "a watch that is dropped goes on on the server", &["watch.bounded/dropped"]),
    (Net::WakesAllInLine, "a release wakes all who wait", &["lock.fair/one-woken"]),
    (Net::DropsEvents, "a watch misses a change now and then", &["watch.gapless/freeze"]),
    (Net::ReleaseIsAlwaysTrue, "a release says that the lock was still held", &["lock.known_loss/release"]),
    (Net::LeavesLocksBehind, "an acquisition that failed is not undone", &["lock.cancel/within"]),
    (
        Net::ClosesTooSoon,
        "closing ends the connections before all is given back",
        &["close.gives_back/acquiring"],
    ),
    (
        Net::AbandonsLocks,
        "an acquisition whose connection is lost is given up, and the server keeps the lock for it",
        &["lock.cancel/lost-reply"],
    ),
    (Net::IgnoresFences, "a lost lock does not keep writes from happening", &["lock.fenced/cut-off"]),
    (
        Net::ForgetsAtRestart,
        "the server forgets what it held when it starts again",
        &["lock.exclusive/restart", "lock.fenced/restart", "version.opaque/restart"],
    ),
    (
        Net::NeverEndsSessions,
        "the server never ends what is not renewed",
        &["lock.freed/cut-off", "lock.freed/killed", "lease.alive/killed"],
    ),
];
