"""Runs sources when they are due, in one process that stays up.

`pipeline.timetable` and `agenda` decide, and know no clock; `scheduler` does what they say.
"""
