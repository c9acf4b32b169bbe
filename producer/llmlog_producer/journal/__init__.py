"""The disk queue of the gateway: events that Kafka cannot take now, or may never have got.

Constraints:

- An event that `append` has returned a place for survives a `kill -9` of its process: it was given
  to the kernel by write(2). It may not survive a loss of power: there is no fsync.
- It is handed out and sent until it is settled. It may be sent twice, after a crash, and is one
  document all the same: the event id is part of it.
- Several processes share a folder without talking to each other, on a file system with flock(2).
  Each writes files of its own. A living process's files are left alone by all others.
- A write that fails leaves the file as it was before, or ends the file. Damage in a file costs the
  events in that place, never the ones behind it, and never the process.
- Payloads are foreign: nothing that a prompt holds can be taken for a frame, and to read a file
  takes time in proportion to its size.
- A disk may hang. So neither a hook nor the thread that sends to Kafka ever calls into a journal.

Format on disk, in one folder for each topic:

    <owner>.lock            empty; held by flock(2) while its owner lives
    <owner>.<id>.journal    a segment: frames, one after the other
    <owner>.<id>.damaged    a segment with damage in it, kept for a person to look at

    frame  = marker, length of the body, CRC-32 of the body (4 bytes each, big-endian), body
    marker = "LLJ2", digest of the segment's id (8 bytes of BLAKE2b)
    body   = event id (20 bytes), value in single-object encoding

An owner is a process, by a random name of 16 digits. The id of a segment is the time at which it
was created and a random number. So its marker is in no other file and in no payload: it tells where
the next frame begins after damage. Which frames are settled is in no file; memory counts them.

Life of a segment:

1. created: the process writes an event and has no open segment of the kind. There are two: one for
   events that are on their way to Kafka as well, one for events that only the journal has.
2. appended to, up to 4 MiB; then, or when a write has failed half-way, it is sealed.
3. taken, if it is of the second kind: sealed and read as a whole, to be sent.
4. settled, event by event. An open segment of the first kind with every event settled is truncated
   to nothing and written again; all others are deleted then, or renamed to `.damaged`. These have a
   quarter of the folder's bound; past it the oldest are deleted.
5. left behind, if its process ends first. The next process that gets the owner's lock adopts it: it
   renames the file to its own name, and reads it to count its events. All of them are unsent again,
   for some may never have been acknowledged.

Who locks what: a process locks `<owner>.lock` for as long as it lives. The kernel drops the lock of
a dead process, however it died. To adopt, a process takes the dead owner's lock, renames the files,
and deletes the lock. A lock is tried once; where the file system refuses it, or grants it twice,
there is no journal. In memory nothing is locked: one thread makes every call, `llmlog-journal` of
`sending/spill.py`. Others only read `is_usable`, `problem`, `waiting` and `unsent`.

Why not SQLite: it is quick (10 µs an insert), but a forked child that closes an inherited
connection unlinks its parent's write-ahead log (100 of 200 commits were gone); one flipped byte
loses what follows it, unseen; any open and close of the file in the process drops the lock; a file
never shrinks; and one that is in use cannot be shown.

`journal` owns the folder, `segment` one file, `inspect` reads a folder that other processes use.
"""
