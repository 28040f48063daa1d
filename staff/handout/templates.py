"""Skeletons for the written answers: a heading for each written question, and the place for the answer below it."""

import re

from staff.handout.compose import Handout
from staff.handout.source import PRACTICE, Question

_PLACE = "Your answer."

_LATEX_BEGIN = r"""\documentclass[11pt]{article}
\usepackage[letterpaper, margin=1in]{geometry}
\usepackage{amsmath, amssymb}
\newcommand{\E}{\mathbb{E}}
\newcommand{\KL}[2]{D_{\mathrm{KL}}\left(#1 \,\middle\|\, #2\right)}
\title{TITLE}
\author{Your name}
\date{}
\begin{document}
\maketitle
% A formula: \[ \KL{p}{q} = \E_{x \sim p}[\log p(x) - \log q(x)] \]
"""
_TYPST_BEGIN = """#set document(title: "TITLE", author: "Your name")
#set page(paper: "us-letter", margin: 1in, numbering: "1")
#set text(size: 11pt)
#show heading.where(level: 1): set text(size: 12.5pt)
#let KL(p, q) = $D_"KL" (#p thin || thin #q)$
// A formula: $ KL(p, q) = bb(E)_(x tilde p) [log p(x) - log q(x)] $

#align(center, text(17pt)[TITLE])
#align(center)[Your name]
"""


def markdown_template(handout: Handout) -> str:
    """The skeleton as Markdown."""
    pieces = [f"# {_title(handout)}", "Your name"]
    pieces.append("A formula: $D_{\\mathrm{KL}}(p \\,\\|\\, q) = \\mathbb{E}_{x \\sim p}[\\log p(x) - \\log q(x)]$")
    for question in _asked(handout):
        pieces.append(f"{'#' * question.level} {handout.title_of(question)}")
        pieces += [_PLACE] if question in handout.scores.source.leaves else []
    return "\n\n".join(pieces) + "\n"


def latex_template(handout: Handout) -> str:
    """The skeleton as LaTeX."""
    pieces = [_LATEX_BEGIN.replace("TITLE", _title(handout))]
    for question in _asked(handout):
        title = re.sub(r"([&%$#_{}])", r"\\\1", handout.title_of(question))
        pieces.append(f"\\{'sub' * (question.level - 2)}section*{{{title}}}")
        pieces += [_PLACE] if question in handout.scores.source.leaves else []
    return "\n\n".join([*pieces, "\\end{document}"]) + "\n"


def typst_template(handout: Handout) -> str:
    """The skeleton as Typst."""
    pieces = [_TYPST_BEGIN.replace("TITLE", _title(handout))]
    for question in _asked(handout):
        title = re.sub(r"([#$*_@<\[\]\\])", r"\\\1", handout.title_of(question))
        pieces.append(f"{'=' * (question.level - 1)} {title}")
        pieces += [_PLACE] if question in handout.scores.source.leaves else []
    return "\n\n".join(pieces) + "\n"


def _title(handout: Handout) -> str:
    return f"{handout.scores.source.keys['title']}: answers"


def _asked(handout: Handout) -> list[Question]:
    """The questions that are answered on paper, and the problems that they belong to; those for practice at the end."""
    scores = handout.scores
    leaves = [leaf for leaf in scores.source.leaves if leaf.part is None]
    wanted = {leaf.number for leaf in leaves} | {leaf.problem for leaf in leaves}
    asked = [question for question in scores.source.questions if question.number in wanted]
    return sorted(asked, key=lambda question: scores.kinds[question.number] == PRACTICE)


TEMPLATES = {".md": markdown_template, ".tex": latex_template, ".typ": typst_template}
