"""The real pipeline in a world of chance, from a seed: nothing lost, nothing twice, nothing wrongly deleted.

`python -m tests.simulation --seeds 0:10000` plays that many histories. Each has a source that is edited while it is
read, a model of the memory service with all its moods, an operator who does what the messages say, and crashes at any
await. The pipeline is the real one, down to the bytes of the requests and the SQL of the ledger; only the clock, the
network, the source and the death of processes are made up. The checker knows nothing of the pipeline: it sees what the
source held and what the memory was asked to do.

What is not played, since no client can make up for it: a service that forgets a token sooner than it is trusted,
carries out a request later than `LATE_WRITE_S`, shows a record later than `SETTLE_S`, or says of a record that it
failed when it was stored; a source that says of a document that it is gone, twice, when it is there; two states of one
source. Excused for a moment, but not in the end: what is written twice because the ledger was lost while listings did
not show yet what had been written under it.
"""
