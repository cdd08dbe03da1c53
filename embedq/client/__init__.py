"""What an application uses: save, search, import. May be imported by cli, http, celery_app and poller; uses wiring and everything below."""
