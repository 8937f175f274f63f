"""Runs of sources: composed from their settings, observed, accounted for, and told of afterwards.

parts, measured                           one source, put together from its settings
runner, upkeep                            its runs, and what else is done with it
observing, notifying, metrics             who hears of its runs beside the log and the display
recording, run_pages, history             the report that each run leaves, its page, and those of the runs before
status, preview, changed_files            what is told without a run
time_zones                                the clock that schedules and people go by
"""
