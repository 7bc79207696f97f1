"""The one exception of the tools."""


class ToolError(Exception):
    """Something that the person who called can put right; the message says what is wrong and what to do."""
