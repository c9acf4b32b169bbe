"""Who may see the console: addresses, logins, sessions, roles."""
