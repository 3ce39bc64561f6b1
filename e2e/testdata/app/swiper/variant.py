# What makes one version of this project differ from another. The tests write this file.
VERSION = "v1"
IMPORT_SECONDS = 0.0
IMPORT_WORKS = True
HEALTHY = True
FAIL_EVERY = 0
