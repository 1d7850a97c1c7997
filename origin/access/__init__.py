"""Who may, and how much: credentials, limits of one client, and what isn't for everybody."""
