/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sleeping and waking over the rings of common/wire/shm.c (and inproc.c, whose
 * steps are the same): one writer, one reader, a ring of CAPACITY frames, FRAMES
 * to pass. Every order of their steps is searched; sequential consistency is
 * what the code asks for (seq_cst on these four variables).
 *
 *   step here                     there
 *   publish                       publish: tail, then exchange reader_sleeps, bell
 *   room                          wait_for_room: writer_waits, then head again
 *   writer's arm                  shm_arm: empty the bell, then look at writer_waits
 *   take, release                 shm_recv, release: head, then exchange writer_waits, bell
 *   reader's arm                  shm_arm: empty the bell, reader_sleeps, then look at tail
 *
 * Left out: the bytes, closing (a closed socket stays readable), spurious bells.
 * A lost wake-up is a state in which nobody can go on and not all has passed.
 *
 * Variants that must be caught: NO_LOOK_AGAIN (the reader sleeps without looking
 * at tail after its announcement), BELL_EMPTIED_LATE (emptied after the look),
 * NO_ROOM_AGAIN (the writer does not look at head after its announcement),
 * PUBLISH_AFTER_LOOK (the writer looks at reader_sleeps before it stores tail),
 * WAITS_UNPUBLISHED (the writer waits for room with frames unpublished).
 */
#ifndef FRAMES
#define FRAMES 4
#endif
#ifndef CAPACITY
#define CAPACITY 2
#endif

byte tail, head;                /* published; released */
bit reader_sleeps, writer_waits;
bit reader_bell, writer_bell;
byte out_tail;                  /* the writer's own */
byte taken;                     /* the reader's own */
byte head_seen;
bit was;

inline wake_reader()
{
    atomic { was = reader_sleeps; reader_sleeps = 0 } /* the exchange */
    if
    :: was -> reader_bell = 1
    :: else
    fi
}

inline publish()
{
#ifdef PUBLISH_AFTER_LOOK
    wake_reader();
    tail = out_tail
#else
    tail = out_tail;
    wake_reader()
#endif
}

active proctype writer()
{
    do
    :: out_tail == FRAMES -> break
    :: out_tail < FRAMES && out_tail - head_seen < CAPACITY ->
        out_tail++;
        if
        :: publish()
        :: out_tail < FRAMES    /* a burst: published later */
        fi
    :: out_tail < FRAMES && out_tail - head_seen >= CAPACITY ->
        head_seen = head;
        if
        :: out_tail - head_seen < CAPACITY
        :: else ->
#ifndef WAITS_UNPUBLISHED
            publish();
#endif
            writer_waits = 1;
#ifndef NO_ROOM_AGAIN
            head_seen = head;
#endif
            if
            :: out_tail - head_seen < CAPACITY -> writer_waits = 0
            :: else ->
                do              /* send again and again, or sleep in between */
#ifdef BELL_EMPTIED_LATE
                :: writer_waits == 0 -> break
                :: else -> writer_bell = 0; writer_bell == 1
#else
                :: writer_bell = 0;
                    if
                    :: writer_waits == 0 -> break
                    :: else -> writer_bell == 1
                    fi
#endif
                od
            fi
        fi
    od;
    publish()
}

bit relieved;
active proctype reader()
{
    do
    :: taken == FRAMES -> break
    :: taken < FRAMES && taken < tail ->
        taken++;
        if
        :: skip                 /* released later, at the latest when nothing is left */
        :: head = taken;
            atomic { relieved = writer_waits; writer_waits = 0 }
            if
            :: relieved -> writer_bell = 1
            :: else
            fi
        fi
    :: taken < FRAMES && taken == tail ->
        head = taken;
        atomic { relieved = writer_waits; writer_waits = 0 }
        if
        :: relieved -> writer_bell = 1
        :: else
        fi;
#ifndef BELL_EMPTIED_LATE
        reader_bell = 0;
#endif
        reader_sleeps = 1;
        if
#ifndef NO_LOOK_AGAIN
        :: tail != taken -> reader_sleeps = 0
#endif
        :: else ->
#ifdef BELL_EMPTIED_LATE
            reader_bell = 0;
#endif
            reader_bell == 1
        fi
    od
}

/* Nobody can take a step. */
active proctype watch()
{
    timeout;
    assert(taken == FRAMES) /* RULE: a wake-up was lost */
}
