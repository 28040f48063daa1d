"""What the audit has to know about homework 10 beyond its declaration."""

from staff.audit.subject import Facts

FACTS = Facts()
