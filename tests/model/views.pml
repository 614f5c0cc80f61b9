/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views, leases, take-over and joins of one shard, for spin.
 *
 * One process chooses, over and over, a node or a message and one step for it;
 * every order is tried. A node that takes no step is paused, a message that is
 * not delivered is late or lost, so neither needs a step of its own.
 *
 * What is modelled, and what stands for it in statestore/core/:
 *
 *   step here            in the core
 *   write                execute.c, log_push()
 *   send_append, APPEND  send_append() -> on_append(), take_entries()
 *   UP                   send_ack() -> on_ack(), commit_update(); its lease: lease_granted()
 *   lease, CAN_SERVE     lease_may_tell(), lease_release(); the stamp: lease_stamp(), lease_heard()
 *   wait                 collect_begin(), lease_wait_ms(): always, nothing skips it
 *   prove_death          -  (no proof is taken: the core waits)
 *   COLLECT, seal        peers_new_epoch() -> on_view(), follow(); positions: on_ack(), collect_run();
 *                        what one has more: send_fetch() -> on_fetch() -> on_tail()
 *   propose_drop         propose_without()
 *   propose_join         propose_with(), on_join()
 *   take_over            suspect()
 *   learn, adopt         on_view(), adopt(), leave_view(), step_down()
 *   burn                 proposal_answered(): the same comparison is sent again until the epoch moved
 *   etcd                 proposal.c's owner: the server's view provider, the simulator's
 *   SNAP_FIRST, SNAP_LAST  join_run(), on_snap_begin(), on_chunk()
 *   crash                a new process: shard_create()
 *
 * Time is one clock: step `tick` shortens whatever runs. A lease runs from when
 * its request was sent (requests carry what is left of it), a new primary's
 * wait from when it observed its view. Drift is part of the wait's length.
 *
 * A log is up to three writes, in base 4, the first one lowest: 0 is empty,
 * 1 + 4 * 2 is write 1, then write 2. `told` is the longest log prefix that any
 * client was told of. A primary tells at the moment at which it may, the worst
 * case. A read is no step: whoever can_serve() must hold all of `told`.
 *
 * Left out: handing over (the primary proposes the same members, led by another,
 * and stays as a backup: hand_over()), clients' retries and exactly-once, timers, ownership moves, async
 * tables, one-sided reads and their nested leases, min_copies, the loss that an
 * operator accepts (so an excluded replica's data is forgotten at once: nothing
 * would read it), snapshots of more than two parts, logs that are trimmed,
 * liveness: that the shard serves again is the simulator's to show. An etcd
 * that forgets or goes back is not modelled; that it is away is.
 *
 * Bounds come by -D (run.sh has the configurations): NODES, MEMBERS of the
 * first view, WRITES, EPOCHS, CRASHES, MESSAGES under way at once, LEASE ticks.
 * Each name under "variants" breaks one rule; see README.md.
 */
#ifndef NODES
#define NODES 2
#endif
#ifndef MEMBERS
#define MEMBERS NODES
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef LEASE
#define LEASE 1
#endif
#ifdef NO_JOINS
#define JOINS_MAY_BEGIN 0
#else
#define JOINS_MAY_BEGIN 1
#endif

/* --- logs ------------------------------------------------------------------ */

#define LEN(log) (((log) > 0) + ((log) > 3) + ((log) > 15))
#define MASK(len) ((1 << (2 * (len))) - 1)
#define CUT(log, len) ((log) & MASK(len))
#define IS_PREFIX(a, b) (CUT(b, LEN(a)) == (a))
/* What is there already is kept, unread, as on_append() does. */
#define EXTEND(a, b) ((a) | ((b) & (63 - MASK(LEN(a)))))

/* --- views: members 0-2, their incarnations 3-8, the primary 9-10 ------------ */

#define HAS(v, n) (((v) >> (n)) & 1)
#define INC_OF(v, n) (((v) >> (3 + 2 * (n))) & 3)
#define PRIMARY_OF(v) ((v) >> 9)
#define WITHOUT(v, n) ((v) & (2047 - (1 << (n)) - (3 << (3 + 2 * (n)))))
#define WITH(v, n, i) (WITHOUT(v, n) | (1 << (n)) | ((i) << (3 + 2 * (n))))
#define LED_BY(v, n) (((v) & 511) | ((n) << 9))
#ifdef NO_INCARNATIONS
#define SAME_INC(a, b) (1)
#else
#define SAME_INC(a, b) ((a) == (b))
#endif
#define NAMES(v, n, i) (HAS(v, n) && SAME_INC(INC_OF(v, n), i))

/* --- messages: what is left of the lease lowest, so that a tick keeps the order - */

#define COLLECT 1    /* a new primary asks for the tail */
#define APPEND 2     /* the log; a heartbeat; asks for a lease */
#define SNAP_FIRST 3 /* the first part of a snapshot */
#define SNAP_LAST 4  /* its last part */
#define UP 5         /* the answer to each: acknowledgement, tail, lease */
#define MSG(kind, from, fi, to, ti, epoch, log, whole, left) \
    (((kind) << 20) | ((from) << 18) | ((fi) << 16) | ((to) << 14) | ((ti) << 12) | \
     ((epoch) << 9) | ((log) << 3) | ((whole) << 2) | (left))
#define KIND(x) ((x) >> 20)
#define FROM(x) (((x) >> 18) & 3)
#define FROM_INC(x) (((x) >> 16) & 3)
#define TO(x) (((x) >> 14) & 3)
#define TO_INC(x) (((x) >> 12) & 3)
#define EPOCH(x) (((x) >> 9) & 7)
#define LOG(x) (((x) >> 3) & 63)
#define WHOLE(x) (((x) >> 2) & 1)
#define LEFT(x) ((x) & 3)

/* --- state ----------------------------------------------------------------- */

#define IDLE 0 /* also: crashed, or has no data; a node that is never heard again */
#define JOINING 1
#define BACKUP 2
#define PRIMARY 3
#define GONE 4 /* out of incarnations: a bound of the model */

typedef node {
    unsigned role : 3;
    unsigned inc : 2;        /* the one that lives; counts in every variant */
    unsigned epoch : 3;      /* of the view it knows */
    unsigned log : 6;
    unsigned whole : 1;      /* a joiner: has every part of the snapshot */
    unsigned collecting : 1; /* a primary: has not all members' tails */
    unsigned wait : 2;       /* a primary: until others' leases have run out */
    unsigned floor : 2;      /* a primary: what a joiner must have at least */
    unsigned want : 11;      /* a primary: the view proposed, outcome unknown */
    byte acked[NODES];       /* a primary: 0 not heard, else 1 + position */
    byte lease[NODES];       /* a primary: what is left of it */
};
node at[NODES];

byte epoch = 1;            /* etcd's key: its epoch ... */
short view[EPOCHS + 1];    /* ... and what it was in each; written once */
int cas[NODES];            /* a request on its way to etcd: epoch << 11 | view */
int net[MESSAGES];         /* sorted, without doubles */
byte told;
byte writes, crashes;

#define VIEW(n) view[at[n].epoch]
#define IS_PRIMARY(n) (at[n].role == PRIMARY)

/* scratch; 0 between steps, so that it makes no states */
byte n, m, i, j, c;
int x, v;
bit ok;

/* --- the trace -------------------------------------------------------------- */

#define NAME(n) 65 + (n), at[n].inc
inline say_log(shown)
{
    if
    :: (shown) == 0 -> printf("-")
    :: else ->
        printf("w%d", (shown) & 3);
        if :: (shown) > 3 -> printf(",w%d", ((shown) >> 2) & 3) :: else fi;
        if :: (shown) > 15 -> printf(",w%d", (shown) >> 4) :: else fi
    fi
}
#define SAY_MEMBER(v, k) \
    if :: HAS(v, k) -> printf(" %c.%d", 65 + (k), INC_OF(v, k)) :: else fi
inline say_view(number, members)
{
    printf("epoch %d, primary %c, members", number, 65 + PRIMARY_OF(members));
    SAY_MEMBER(members, 0); SAY_MEMBER(members, 1); SAY_MEMBER(members, 2)
}
inline say_kind(msg)
{
    if
    :: KIND(msg) == COLLECT -> printf("COLLECT")
    :: KIND(msg) == APPEND -> printf("APPEND")
    :: KIND(msg) == SNAP_FIRST -> printf("SNAP_FIRST")
    :: KIND(msg) == SNAP_LAST -> printf("SNAP_LAST")
    :: KIND(msg) == UP -> printf("UP")
    fi
}
inline say_msg(msg)
{
    say_kind(msg);
    printf("(epoch %d, ", EPOCH(msg)); say_log(LOG(msg));
    printf(", lease %d) %c.%d -> %c.%d", LEFT(msg), 65 + FROM(msg), FROM_INC(msg), 65 + TO(msg), TO_INC(msg))
}

/* --- the bag of messages ------------------------------------------------------ */

inline sort_net()
{
    i = 1;
    do
    :: i < MESSAGES ->
        j = i;
        do
        :: j > 0 ->
            if
            :: net[j - 1] < net[j] -> x = net[j]; net[j] = net[j - 1]; net[j - 1] = x; j--
            :: net[j] != 0 && net[j - 1] == net[j] ->
                /* a double: the rest is sorted in by the rounds to come */
                net[j] = 0; j = 0
            :: else -> j = 0
            fi
        :: else -> break
        od;
        i++
    :: else -> break
    od
}
/* A full net loses nothing: the step is not possible until a message is gone. */
#define ROOM (net[MESSAGES - 1] == 0)

/* --- leaving, becoming ---------------------------------------------------------- */

inline forget(k)
{
    at[k].role = IDLE; at[k].epoch = 0; at[k].log = 0; at[k].whole = 0;
    at[k].collecting = 0; at[k].wait = 0; at[k].floor = 0; at[k].want = 0;
    i = 0;
    do
    :: i < NODES -> at[k].acked[i] = 0; at[k].lease[i] = 0; i++
    :: else -> break
    od;
    if
    :: at[k].inc < 3 -> at[k].inc = at[k].inc + 1
    :: else -> at[k].role = GONE
    fi
}

inline collected(k)
{
    ok = 1; i = 0;
    do
    :: i < NODES ->
        if :: i != k && HAS(VIEW(k), i) && at[k].acked[i] == 0 -> ok = 0 :: else fi;
        i++
    :: else -> break
    od;
    if
    :: ok && at[k].collecting -> at[k].collecting = 0; at[k].floor = LEN(at[k].log)
    :: else
    fi
}

inline become_primary(k)
{
    printf("    %c.%d becomes primary of epoch %d with log ", NAME(k), at[k].epoch);
    say_log(at[k].log); printf("\n");
    assert(at[k].whole); /* RULE: a joiner never becomes primary with part of the state */
    at[k].role = PRIMARY;
#ifndef NO_WAIT
    at[k].wait = LEASE;
#endif
#ifdef ADOPT_OWN_TAIL
    i = 0;
    do
    :: i < NODES -> at[k].acked[i] = HAS(VIEW(k), i); i++
    :: else -> break
    od;
#endif
    at[k].collecting = 1;
    collected(k)
}

/* Members that left count no more. */
inline compare_members(k)
{
    i = 0;
    do
    :: i < NODES ->
        if :: i != k && !HAS(VIEW(k), i) -> at[k].acked[i] = 0; at[k].lease[i] = 0 :: else fi;
        i++
    :: else -> break
    od
}

/* Node k learns of view `number`, later than the one it knows. */
inline adopt(k, number)
{
    v = view[number];
    printf("    %c.%d learns: ", NAME(k)); say_view(number, v); printf("\n");
    if
    :: at[k].role == PRIMARY && NAMES(v, k, at[k].inc) && PRIMARY_OF(v) == k ->
        at[k].epoch = number;
        at[k].want = 0;
        compare_members(k);
        collected(k)
    :: at[k].role == BACKUP && NAMES(v, k, at[k].inc) && PRIMARY_OF(v) == k ->
        at[k].epoch = number;
        become_primary(k)
    :: at[k].role == BACKUP && NAMES(v, k, at[k].inc) && PRIMARY_OF(v) != k ->
        at[k].epoch = number
    :: at[k].role == JOINING && NAMES(v, k, at[k].inc) ->
        assert(at[k].whole); /* RULE: no view names a joiner that has part of the state */
        at[k].epoch = number;
        at[k].role = BACKUP
    :: at[k].role == JOINING && !NAMES(v, k, at[k].inc) ->
        at[k].epoch = number
#if defined(NO_INCARNATIONS) || defined(EMPTY_SERVICE)
    /* the node is named: it takes itself for a member */
    :: at[k].role == IDLE && NAMES(v, k, at[k].inc) ->
        at[k].epoch = number;
        at[k].whole = 1;
        if
        :: PRIMARY_OF(v) == k -> become_primary(k)
        :: else -> at[k].role = BACKUP
        fi
#endif
    :: else ->
        printf("    %c.%d leaves, forgets all\n", NAME(k));
        forget(k)
    fi;
    v = 0
}

/* --- frames ----------------------------------------------------------------------- */

#ifdef NO_EPOCH_FENCE
#define TOO_OLD(x, n) (0)
#else
#define TOO_OLD(x, n) (EPOCH(x) < at[n].epoch)
#endif
#ifdef NO_SEAL
#define SEALS(x) (KIND(x) != COLLECT)
#else
#define SEALS(x) (1)
#endif

/* m gets x from its primary; x becomes the answer, or 0. */
inline on_down()
{
    if
    :: SAME_INC(TO_INC(x), at[m].inc) && !TOO_OLD(x, m) && at[m].role == BACKUP &&
       EPOCH(x) > at[m].epoch && SEALS(x) -> c = EPOCH(x); adopt(m, c)
    :: SAME_INC(TO_INC(x), at[m].inc) && at[m].role == JOINING && EPOCH(x) > at[m].epoch ->
        c = EPOCH(x); adopt(m, c)
    :: else
    fi;
    ok = SAME_INC(TO_INC(x), at[m].inc) && !TOO_OLD(x, m);
    if
    :: ok && KIND(x) == COLLECT && at[m].role == BACKUP
    :: ok && KIND(x) == APPEND && (at[m].role == BACKUP || at[m].role == JOINING) ->
        at[m].log = EXTEND(at[m].log, LOG(x))
    :: ok && KIND(x) == SNAP_FIRST && at[m].role == IDLE ->
        at[m].role = JOINING; at[m].epoch = EPOCH(x); at[m].log = LOG(x)
    :: ok && KIND(x) == SNAP_LAST && at[m].role == JOINING && LEN(at[m].log) >= LEN(LOG(x)) ->
        at[m].whole = 1
    :: else -> x = 0
    fi;
    if
    :: x -> x = MSG(UP, m, at[m].inc, FROM(x), FROM_INC(x), EPOCH(x), at[m].log, at[m].whole, LEFT(x))
    :: else
    fi
}

#ifdef LEASE_FROM_RECEIPT
#define GRANTED(x) LEASE
#else
#define GRANTED(x) LEFT(x)
#endif
#ifdef NO_EPOCH_FENCE
#define THIS_EPOCH(x, p) (1)
#else
#define THIS_EPOCH(x, p) (EPOCH(x) == at[p].epoch)
#endif
#ifdef PART_JOINER
#define CAUGHT_UP(x, p) (LEN(LOG(x)) >= at[p].floor)
#else
#define CAUGHT_UP(x, p) (WHOLE(x) && LEN(LOG(x)) >= at[p].floor)
#endif
#define COUNTS(x, p) (SAME_INC(TO_INC(x), at[p].inc) && IS_PRIMARY(p) && THIS_EPOCH(x, p))
#define FROM_MEMBER(x, p) \
    (NAMES(VIEW(p), FROM(x), FROM_INC(x)) || NAMES(at[p].want, FROM(x), FROM_INC(x)))

/* p hears a member: position, tail, lease. */
inline on_up(p, from)
{
    if
    :: at[p].collecting -> at[p].log = EXTEND(at[p].log, LOG(x))
    :: else
    fi;
    if
    :: LEN(LOG(x)) <= LEN(at[p].log) && 1 + LEN(LOG(x)) > at[p].acked[from] ->
        at[p].acked[from] = 1 + LEN(LOG(x))
    :: else
    fi;
    if
    :: GRANTED(x) > at[p].lease[from] -> at[p].lease[from] = GRANTED(x)
    :: else
    fi;
    collected(p)
}

/* --- what clients see ----------------------------------------------------------------- */

#ifdef READ_WHILE_CHANGE_OPEN
#define SUSPENDED(p) (0)
#else
#define SUSPENDED(p) (at[p].want != 0)
#endif
#define LEASED_BY(p, k) (k == p || !HAS(VIEW(p), k) || at[p].lease[k] > 0)
#if NODES == 2
#define LEASED(p) (LEASED_BY(p, 0) && LEASED_BY(p, 1))
#else
#define LEASED(p) (LEASED_BY(p, 0) && LEASED_BY(p, 1) && LEASED_BY(p, 2))
#endif
/* The wait holds back every reply; leases are for what appends nothing. */
#define CAN_TELL(p) (IS_PRIMARY(p) && !at[p].collecting && at[p].wait == 0)
#define CAN_SERVE(p) (CAN_TELL(p) && !SUSPENDED(p) && LEASED(p))

#ifdef COMMIT_BY_ONE_VIEW
#define NEEDED(p, k) (HAS(VIEW(p), k))
#else
#define NEEDED(p, k) (HAS(VIEW(p), k) || HAS(at[p].want, k))
#endif

/* c = the position that everybody needed has */
inline commit_position(p)
{
    c = LEN(at[p].log); i = 0;
    do
    :: i < NODES ->
        if
        :: i != p && NEEDED(p, i) && at[p].acked[i] < c + 1 ->
            c = (at[p].acked[i] -> at[p].acked[i] - 1 : 0)
        :: else
        fi;
        i++
    :: else -> break
    od
}

inline tell(p)
{
    commit_position(p);
    if :: c > at[p].floor -> at[p].floor = c :: else fi;
    x = CUT(at[p].log, c);
    if
    :: LEN(x) > LEN(told) ->
        printf("    %c.%d tells clients of ", NAME(p)); say_log(x); printf("\n");
        assert(IS_PREFIX(told, x)); /* RULE: no acknowledged write is replaced */
        told = x;
#ifdef REACH_TWO_TOLD
        assert(LEN(told) < 2 || at[p].epoch < 2);
#endif
    :: else ->
        assert(IS_PREFIX(x, told)) /* RULE: no acknowledged write is replaced */
    fi
}

inline settle_primary(p)
{
    if
    :: CAN_TELL(p) -> tell(p)
    :: else
    fi
}

/* What can have no effect any more is taken away: epochs and incarnations only
 * grow. Not in the variants where an old one has effects. */
inline drop_useless()
{
    j = 0;
    do
    :: j < MESSAGES ->
        x = net[j];
        if
#ifndef NO_INCARNATIONS
        :: x && TO_INC(x) != at[TO(x)].inc -> net[j] = 0
#endif
#ifndef NO_EPOCH_FENCE
        :: x && TO_INC(x) == at[TO(x)].inc && EPOCH(x) < at[TO(x)].epoch -> net[j] = 0
#endif
        :: else
        fi;
        j++
    :: else -> break
    od;
    j = 0;
    do
    :: j < NODES ->
        if :: (cas[j] >> 11) != epoch -> cas[j] = 0 :: else fi;
        j++
    :: else -> break
    od;
    sort_net()
}

inline check_serving(p)
{
    if
    :: CAN_SERVE(p) ->
        assert(IS_PREFIX(told, at[p].log)); /* RULE: no stale read, no write lost */
        c++
#ifdef REACH_JOINED
        assert(at[p].epoch == 1 || HAS(view[1], p) || told == 0);
#endif
#ifdef REACH_TAKE_OVER
        assert(PRIMARY_OF(VIEW(p)) == PRIMARY_OF(view[1]) || told == 0);
#endif
#ifdef REACH_REJOINED
        assert(at[p].inc == 0 || told == 0);
#endif
    :: else
    fi
}

#define DATA_OF(k) (NAMES(view[epoch], k, at[k].inc) && at[k].role != IDLE && at[k].role != GONE)
inline check_member(k)
{
    if
    :: DATA_OF(k) ->
#ifndef VISIBLE
        assert(IS_PREFIX(told, at[k].log)); /* RULE: each member of the last view has all that was told */
#endif
        ok = 1
    :: else
    fi
}

inline end_step()
{
    settle_primary(0); settle_primary(1);
#if NODES == 3
    settle_primary(2);
#endif
    drop_useless();
    c = 0;
    check_serving(0); check_serving(1);
#if NODES == 3
    check_serving(2);
#endif
    assert(c <= 1); /* RULE: no two primaries that both serve */
    ok = 0;
    check_member(0); check_member(1);
#if NODES == 3
    check_member(2);
#endif
#ifdef REACH_LOST
    assert(ok || told == 0);
#endif
    n = 0; m = 0; i = 0; j = 0; c = 0; x = 0; v = 0; ok = 0
}

/* --- steps -------------------------------------------------------------------------------- */

#define MAY_PROPOSE(n) (cas[n] == 0 && epoch < EPOCHS && at[n].epoch == epoch)
#define MAY_CHANGE(n) (IS_PRIMARY(n) && at[n].want == 0 && MAY_PROPOSE(n))
#ifdef PROOF_OF_LAST_ONLY
#define EARLIER(k) ((k) + 1 == at[n].epoch)
#else
#define EARLIER(k) ((k) < at[n].epoch)
#endif

inline propose(w)
{
    at[n].want = w;
    cas[n] = (at[n].epoch << 11) | (w);
    printf("%c.%d asks etcd for ", NAME(n)); say_view(at[n].epoch + 1, (w)); printf("\n")
}

inline any_alive_earlier()
{
    ok = 0; i = 1;
    do
    :: i < EPOCHS ->
        if
        :: EARLIER(i) && view[i] && PRIMARY_OF(view[i]) != n &&
           at[PRIMARY_OF(view[i])].inc == INC_OF(view[i], PRIMARY_OF(view[i])) -> ok = 1
        :: else
        fi;
        i++
    :: else -> break
    od
}

inline pick(k)
{
    if
    :: k = 0
    :: k = 1
#if NODES == 3
    :: k = 2
#endif
    fi
}

inline step_of_node()
{
    if
    :: d_step { IS_PRIMARY(n) && !at[n].collecting && writes < WRITES ->
        writes++;
        at[n].log = at[n].log | (writes << (2 * LEN(at[n].log)));
        printf("%c.%d executes write w%d\n", NAME(n), writes) }

    :: d_step { at[n].role == BACKUP && MAY_PROPOSE(n) -> /* take-over */
        x = LED_BY(WITHOUT(VIEW(n), PRIMARY_OF(VIEW(n))), n);
        cas[n] = (epoch << 11) | x;
        printf("%c.%d suspects its primary, asks etcd for ", NAME(n));
        say_view(epoch + 1, x); printf("\n") }

    :: d_step { cas[n] != 0 -> /* of this epoch: drop_useless() */
        epoch++; view[epoch] = cas[n] & 2047;
        printf("etcd: what %c asked for: ", 65 + n);
        say_view(epoch, view[epoch]); printf("\n") }

    :: d_step { cas[n] != 0 ->
        cas[n] = 0; printf("etcd: what %c asked for is lost\n", 65 + n) }

    :: d_step { IS_PRIMARY(n) && at[n].want != 0 && at[n].epoch == epoch && epoch < EPOCHS ->
        epoch++; view[epoch] = view[epoch - 1];
        printf("%c.%d burns an epoch: ", NAME(n));
        say_view(epoch, view[epoch]); printf("\n") }

    :: d_step { at[n].wait > 0 -> any_alive_earlier();
        if
        :: !ok -> at[n].wait = 0;
            printf("%c.%d has proof that the earlier primaries are dead\n", NAME(n))
        :: else
        fi }

    :: d_step { crashes < CRASHES && at[n].inc < 3 && at[n].role != IDLE ->
        crashes++; printf("%c.%d crashes\n", NAME(n)); forget(n) }

    :: d_step { at[n].role == JOINING ->
        printf("%c.%d gives up its join\n", NAME(n)); forget(n) }

#ifdef REREAD_IS_OUTCOME
    :: d_step { IS_PRIMARY(n) && at[n].want != 0 && at[n].epoch == epoch ->
        printf("%c.%d reads the old view again, takes it for a refusal\n", NAME(n));
        at[n].want = 0; compare_members(n); i = 0 }
#endif
#ifdef JOINER_SWAPS_ITSELF_IN
    :: d_step { at[n].role == JOINING && at[n].whole && MAY_PROPOSE(n) ->
        x = WITH(VIEW(n), n, at[n].inc);
        cas[n] = (epoch << 11) | x;
        printf("%c.%d, a joiner, asks etcd for ", NAME(n));
        say_view(epoch + 1, x); printf("\n") }
#endif
#ifdef EMPTY_SERVICE
    :: d_step { at[n].role == IDLE && cas[n] == 0 && epoch < EPOCHS && !DATA_OF(0) && !DATA_OF(1) ->
        x = LED_BY(WITH(0, n, at[n].inc), n);
        cas[n] = (epoch << 11) | x;
        printf("%c.%d finds nobody, asks etcd for ", NAME(n));
        say_view(epoch + 1, x); printf("\n") }
#endif
    :: else -> goto nothing
    fi
}

/* Etcd's word, at any time after it was written, in order. */
#if defined(NO_INCARNATIONS) || defined(EMPTY_SERVICE)
#define LEARNS(n) (at[n].role != GONE && (at[n].role != IDLE || NAMES(view[c], n, at[n].inc)))
#else
#define LEARNS(n) (at[n].role != GONE && at[n].role != IDLE)
#endif
inline step_of_learner()
{
    if
    :: d_step { c > at[n].epoch && c <= epoch && LEARNS(n) ->
        printf("%c.%d hears from etcd\n", NAME(n)); adopt(n, c) }
    :: else -> goto nothing
    fi
}

#define INC_TOLD(n, m) \
    (HAS(VIEW(n), m) -> INC_OF(VIEW(n), m) : (HAS(at[n].want, m) -> INC_OF(at[n].want, m) : at[m].inc))
#define OUTSIDER(n, m) (!HAS(VIEW(n), m) && !HAS(at[n].want, m))
inline post(kind)
{
    x = MSG(kind, n, at[n].inc, m, INC_TOLD(n, m), at[n].epoch, at[n].log, 0, LEASE);
    net[MESSAGES - 1] = x; /* ROOM */
    printf("%c.%d sends ", NAME(n)); say_msg(x); printf("\n")
}

inline step_of_pair()
{
    if
    :: d_step { n != m && IS_PRIMARY(n) && at[n].collecting && HAS(VIEW(n), m) &&
                at[n].acked[m] == 0 && ROOM -> post(COLLECT) }
    :: d_step { n != m && IS_PRIMARY(n) && !at[n].collecting && ROOM &&
                (!OUTSIDER(n, m) || at[m].role == JOINING) -> post(APPEND) }
    :: d_step { n != m && IS_PRIMARY(n) && !at[n].collecting && ROOM && OUTSIDER(n, m) &&
                at[m].role == IDLE && JOINS_MAY_BEGIN -> post(SNAP_FIRST) }
    :: d_step { n != m && IS_PRIMARY(n) && !at[n].collecting && ROOM && OUTSIDER(n, m) &&
                at[m].role == JOINING && !at[m].whole -> post(SNAP_LAST) }
    :: d_step { n != m && MAY_CHANGE(n) && HAS(VIEW(n), m) ->
        propose(WITHOUT(VIEW(n), m)) }
    :: else -> goto nothing
    fi
}

#define JOINS(x, p) (KIND(x) == UP && COUNTS(x, p) && !HAS(VIEW(p), FROM(x)) && \
                     CAUGHT_UP(x, p) && MAY_CHANGE(p))
inline step_of_message()
{
    if
    :: d_step { net[j] != 0 && KIND(net[j]) != UP ->
        x = net[j]; net[j] = 0; m = TO(x);
        printf("%c.%d gets ", NAME(m)); say_msg(x); printf("\n");
        on_down();
        net[j] = x;
        if :: x -> printf("    answers "); say_msg(x); printf("\n") :: else fi }
    :: d_step { net[j] != 0 && KIND(net[j]) == UP ->
        x = net[j]; net[j] = 0; n = TO(x); m = FROM(x);
        printf("%c.%d gets ", NAME(n)); say_msg(x); printf("\n");
        if
        :: COUNTS(x, n) && FROM_MEMBER(x, n) -> on_up(n, m)
        :: else
        fi }
    :: d_step { net[j] != 0 && JOINS(net[j], TO(net[j])) ->
        x = net[j]; net[j] = 0; n = TO(x); m = FROM(x);
        printf("%c.%d gets ", NAME(n)); say_msg(x); printf(": caught up\n");
        at[n].acked[m] = 1 + LEN(LOG(x));
        at[n].lease[m] = GRANTED(x);
        c = FROM_INC(x);
        x = WITH(VIEW(n), m, c);
        propose(x) }
    :: d_step { net[j] != 0 ->
        printf("lost: "); say_msg(net[j]); printf("\n"); net[j] = 0 }
    :: else -> goto nothing
    fi
}

inline pick_message()
{
    if
    :: j = 0
#if MESSAGES > 1
    :: j = 1
#endif
#if MESSAGES > 2
    :: j = 2
#endif
#if MESSAGES > 3
    :: j = 3
#endif
    fi
}

inline pick_epoch()
{
    if
    :: c = 2
#if EPOCHS > 2
    :: c = 3
#endif
#if EPOCHS > 3
    :: c = 4
#endif
#if EPOCHS > 4
    :: c = 5
#endif
    fi
}

inline tick()
{
    printf("a tick\n");
    n = 0;
    do
    :: n < NODES ->
        if :: at[n].wait > 0 -> at[n].wait = at[n].wait - 1 :: else fi;
        m = 0;
        do
        :: m < NODES ->
            if :: at[n].lease[m] > 0 -> at[n].lease[m] = at[n].lease[m] - 1 :: else fi;
            m++
        :: else -> break
        od;
        n++
    :: else -> break
    od;
    j = 0;
    do
    :: j < MESSAGES ->
        if :: LEFT(net[j]) > 0 -> net[j] = net[j] - 1 :: else fi;
        j++
    :: else -> break
    od;
    n = 0; m = 0; j = 0
}

inline first_view()
{
    do
    :: n < MEMBERS ->
        view[1] = WITH(view[1], n, 0);
        at[n].role = BACKUP; at[n].epoch = 1; at[n].whole = 1;
        n++
    :: else -> break
    od;
    at[0].role = PRIMARY;
    n = 0
}

active proctype protocol()
{
    d_step { first_view() }
again:
    atomic {
        if
        :: pick(n); step_of_node()
        :: pick(n); pick_epoch(); step_of_learner()
        :: pick(n); pick(m); step_of_pair()
        :: pick_message(); step_of_message()
        :: d_step { true -> tick() }
        fi;
        d_step { end_step() }
        goto again;
nothing:
        n = 0; m = 0; j = 0; c = 0;
        goto again
    }
}
