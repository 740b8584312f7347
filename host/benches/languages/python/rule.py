"""A visit says who, where and by what: the twin of ../../guest/src/texts.rs."""

from sluice import code, col, rule

INCOMPLETE = code("incomplete", "a visit says who, where and by what")


def texts(row, settings, found):
    if not row.user or not row.page or not row.browser:
        found(INCOMPLETE)


Rule = rule(
    "texts",
    "0.1.0",
    texts,
    codes=[INCOMPLETE],
    user=col("user_id", str),
    page=col("page", str),
    browser=col("context.technical.browser", str),
)
