"""The disk queue of the gateway: events that Kafka cannot take now, or may never have got.

Constraints:

- An event that `append_all` has returned a place for survives a `kill -9` of its process: it was
  given to the kernel by write(2). It may not survive a loss of power: there is no fsync.
- It is handed out and sent until it is settled. It may be sent twice, after a crash, and is one
  document all the same: the event id is part of it.
- Several processes share a folder without talking to each other, on a local file system. Each
  writes files of its own. A living process's files are left alone by all others.
- A write that fails leaves the file as it was before, or ends the file. Damage in a file costs the
  events in that place, never the ones behind it, and never the process.
- Hooks may write, on any thread, so nothing slow is done while the lock is held.

Format on disk, in one folder for each topic:

    <owner>.lock            empty; held by flock(2) while its owner lives
    <owner>.<n>.journal     a segment: frames, one after the other
    <owner>.<n>.damaged     a segment with damage in it, kept for a person to look at

    frame = "LLJ1", length of the body, CRC-32 of the body (4 bytes each, big-endian), body
    body  = event id (20 bytes), value in single-object encoding

An owner is a process, by a random name of 16 digits. Which frames are settled is not on disk: one
byte of memory for each frame holds its state (unsent, taken, settled).

Life of a segment:

1. created: the process has no open segment and writes an event.
2. appended to, up to 4 MiB; then, or when a write has failed half-way, it is sealed.
3. taken from: unsent events are read from the file and sent; `give_back` makes one unsent again.
4. settled, event by event. An open segment with every event settled is truncated to nothing and
   goes on as a new one; a sealed one is deleted, or renamed to `.damaged`.
5. left behind, if its process ends first. The next process that gets the lock adopts it: all of its
   frames are unsent again, for some of them may never have been acknowledged.

`journal` owns the folder, `segment` one file, `inspect` reads a folder that other processes use.
"""
