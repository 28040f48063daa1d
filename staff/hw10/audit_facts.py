"""What the audit has to know about homework 10 beyond its declaration."""

from staff.audit.subject import Channel, Facts

_WRONG = """
share = alpha_bar[t].view(-1, *[1] * (x_0.dim() - 1))
return {value}
"""

FACTS = Facts(
    channel=Channel(
        part="4a",
        is_hidden="len(alpha_bar) not in (5, 8)",  # these are the steps of the visible tests
        wrong=(
            _WRONG.replace("{value}", "share * x_0 + (1 - share) * noise"),
            _WRONG.replace("{value}", "share.sqrt() * x_0 + noise"),
        ),
        other_kind="return None",
    )
)
