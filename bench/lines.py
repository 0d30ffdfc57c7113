# SPDX-License-Identifier: Apache-2.0
"""Count the service's code: lines of Python without blanks, comments and docstrings, and lines of SQL.

The service is the package without the reference plugin, the simulated network, the commands, the page, and
the class model that all of them share.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent.parent / "src" / "ran_datajobs"
BESIDE: Final = ("dmi", "simulator", "cli", "demo", "web", "nrm", "examples")
_NO_CODE: Final = (
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    tokenize.ENCODING,
)  # fmt: skip


def python_lines(text: str) -> int:
    """Lines with code: no blank line, no comment, no docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    lines = {
        number
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in _NO_CODE
        for number in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, documented):
            continue
        for each in node.body:  # a text below a constant is a docstring as well
            if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
                lines -= set(range(each.lineno, (each.end_lineno or each.lineno) + 1))
    return len(lines)


def sql_lines(text: str) -> int:
    """Lines that are neither blank nor a comment."""
    return sum(not line.strip().startswith("--") for line in text.splitlines() if line.strip())


def counted(package: Path = PACKAGE) -> tuple[Counter[str], Counter[str]]:
    """Lines of Python and of SQL for each part of the service; a module of the root counts as ``(root)``."""
    python: Counter[str] = Counter()
    sql: Counter[str] = Counter()
    for file in sorted(package.rglob("*")):
        parts = file.relative_to(package).parts
        part = parts[0] if len(parts) > 1 else "(root)"
        if part in BESIDE or "migrations" in parts:
            continue
        if file.suffix == ".py":
            python[part] += python_lines(file.read_text(encoding="utf-8"))
        elif file.suffix == ".sql":
            sql[part] += sql_lines(file.read_text(encoding="utf-8"))
    return python, sql


async def run() -> None:
    """Print the lines of each part, and their sum."""
    python, sql = counted()
    print("Lines of the service, without blanks, comments, docstrings and migrations:")
    for part in sorted(python | sql):
        print(f"  {part:12} {python[part]:6,} Python {sql[part]:6,} SQL")
    print(f"  {'together':12} {python.total():6,} Python {sql.total():6,} SQL")
