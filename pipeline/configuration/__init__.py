"""The configuration of a source: read, checked, explained, and its secrets looked up when a run needs them.

settings, values, loading                              what a file may say, and reading it under the environment
yaml_source, source_files, faults                      where each value stands, and what is wrong with it
setting_references, local_references, secret_stores    `${env:NAME}` and the like: which there are, where they lead
resolving, known_settings, shown_settings              the same settings for a run, an examination, and people's eyes
masking                                                what may be a secret, and texts without it
own_files                                              which files of the source are what memsync itself has written
checking, readiness, explaining, schema, source_types  what `validate`, `explain`, `schema` and `sources` tell
source_permissions                                     what AWS must allow for the source itself
"""
