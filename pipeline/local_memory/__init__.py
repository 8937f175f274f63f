"""An AgentCore Memory on this machine: the same HTTP API, one SQLite file, no AWS account.

    async with LocalMemory.serve(memories=["handbook-a1B2c3D4e5"]) as server:
        client = boto3.client("bedrock-agentcore", endpoint_url=server.url, ...)

It serves first runs, rehearsals and tests. What it takes for valid comes from botocore's own model of the
service; how it behaves comes from what AWS documents, and where that is silent it is the stricter of two
answers, so that a client which works here works there.

server.py      HTTP, faults, start and stop; begin reading here
operations.py  what each operation does
api.py         routes and validation, read from botocore's service model
selection.py   which records a List or Retrieve asks for, as SQL
search.py      full-text search in any script
store.py       the SQLite file
faults.py      what can be made to go wrong
"""

from pipeline.local_memory.faults import Faults
from pipeline.local_memory.server import LocalMemory, serve_forever
from pipeline.local_memory.store import StoredRecord, UnreadableStoreError

__all__ = ("Faults", "LocalMemory", "StoredRecord", "UnreadableStoreError", "serve_forever")
