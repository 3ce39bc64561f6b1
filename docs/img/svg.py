#!/usr/bin/env python3
"""Turns a terminal's text into an SVG picture.

The text is what `tmux capture-pane -p -e` gives: lines with SGR colour codes. Nothing is added to it.

    tmux capture-pane -p -e | docs/img/svg.py > docs/img/release.svg
"""
import html
import re
import sys

COLUMN, LINE, MARGIN = 8.4, 20, 18
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "34": "#79c0ff", "36": "#76e3ea", "2": "#8b949e"}
PLAIN = "#e6edf3"
CODE = re.compile(r"\x1b\[([0-9;]*)m")


def runs(line):
    """Parts a line into (column, text, colour, bold)."""
    column, colour, bold = 0, PLAIN, False
    for i, part in enumerate(CODE.split(line)):
        if i % 2 == 0:
            if part:
                yield column, part, colour, bold
            column += len(part)
            continue
        for code in part.split(";"):
            if code in ("", "0", "39"):
                colour, bold = PLAIN, bold and code == "39"
            elif code == "1":
                bold = True
            elif code == "22":
                bold = False
            elif code in COLOURS:
                colour = COLOURS[code]


def svg(lines):
    width = MARGIN * 2 + COLUMN * max(len(CODE.sub("", line)) for line in lines)
    height = MARGIN * 2 + LINE * len(lines)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="14">',
        f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#0d1117"/>',
    ]
    for row, line in enumerate(lines):
        for column, text, colour, bold in runs(line):
            if not text.strip():
                continue
            weight = ' font-weight="bold"' if bold else ""
            # textLength keeps columns under each other whatever font the reader has.
            out.append(
                f'<text x="{MARGIN + COLUMN * column:.1f}" y="{MARGIN + LINE * row + 14}" fill="{colour}"{weight} '
                f'textLength="{COLUMN * len(text):.1f}" xml:space="preserve">{html.escape(text)}</text>'
            )
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    lines = [line.rstrip() for line in sys.stdin.read().splitlines()]
    while lines and not CODE.sub("", lines[-1]).strip():
        lines.pop()
    sys.stdout.write(svg(lines))


main()
