"""What a run shows of itself. Everything here listens to run events or renders what they added up to.

    tally      the counts of one source
    listeners  several listeners as one
    logs       events as log lines on stderr
    progress   a live display on a terminal
    waits      what a run waits for, and for how long
    pulse      whether a run moves, said now and then
    telemetry  OpenTelemetry traces and metrics
    prometheus how sources stand, as metrics
    notices    what people are told when something changes; notifications sends it
    summary    the closing words of `run`, `replay` and `plan`
    listings   what `dead-letters`, `status`, `search` and `verify` print
    text       the words and signs that they share, and `printable`

Nothing is imported from here: `structlog` and `rich` cost 0.2 s, and most commands need neither.
"""
