"""A terminal in memory: what stands on its screen after all that was printed."""

import io
import re


class Terminal(io.StringIO):
    """Takes what is printed to a terminal, which knows carriage returns, line feeds and the cursor going up."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """The lines that are not empty, as they stand there."""
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\r|\n|\x1b\[\d*A|[^\r\n\x1b]+|\x1b", self.getvalue()):
            if part == "\r":
                column = 0
            elif part == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif part.startswith("\x1b"):
                row -= int(part[2:-1] or 1)
            else:
                lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
                column += len(part)
        return [line.rstrip() for line in lines if line.strip()]
