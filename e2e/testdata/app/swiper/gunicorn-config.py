# gunicorn looks for its config before it goes to --chdir, so the unit names this file by its full
# path through "current": a relative one would be looked for where the master was started.
bind = "0.0.0.0:9000"
workers = 2
backlog = 512
timeout = 30
graceful_timeout = 10
accesslog = None
errorlog = "-"
