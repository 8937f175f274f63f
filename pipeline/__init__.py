"""memsync: an agent's long-term memory, kept equal to a set of documents. Start reading in `sync.py`."""
