"""Database tiles: sessions with SQLite and with PostgreSQL, which look alike."""
