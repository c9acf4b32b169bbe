"""The checks behind `pipeline doctor`: a table of them, and what they ask the servers.

    facts.py       each question to a server, asked once     (I/O)
    findings.py    the form of a check, and how the table is gone through
    kafka_checks.py, elasticsearch_checks.py                 the table: what an answer means
    examination.py the whole of it, put together

A check states what is needed for it as names of facts. Where a fact cannot be had, the first check
that needs it is red, and the others that need it are skipped.
"""
