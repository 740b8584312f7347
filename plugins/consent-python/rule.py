"""A private visit carries no login, unless allowed."""

from sluice import code, col, rule

LOGIN_EXPOSED = code("login-exposed", "a private visit carries a login")


def consent(row, settings, found):
    if row.private and row.login is not None and row.login not in settings.get("allow", []):
        found(LOGIN_EXPOSED)


Rule = rule(
    "consent",
    "1.2.0",
    consent,
    codes=[LOGIN_EXPOSED],
    private=col("keep_private", bool),  # the columns this rule reads; the host passes no others
    login=col("context.user.login", str),
)
