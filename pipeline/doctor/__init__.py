"""What `memsync doctor` looks at: all that a run needs, each thing by itself, and what to do where it is lacking.

examination.py    which checks there are; begin reading here
checks.py         what a check is, and how they are run beside each other
settings.py       the configuration, packages, secrets, the schedule
source.py         whether the source can be listed and read
state.py          the state folder, the state in it, who holds it, what is outstanding
account.py        one AWS account and one memory, each question asked once
credentials.py    who we are
memory.py         the memory, its region, strategies, indexed keys and clock
permissions.py    what the credentials may do
policy.py         what they must be allowed to do, as an IAM policy
quotas.py         the configured rate beside the account's
measuring.py      the probe for sources, and what was measured beside what a run reckons with
probe.py          what AWS does not document, measured on a memory that is there to be thrown away
"""
