from django.db import models


class Note(models.Model):
    """A line somebody left; what a release must not lose."""

    text = models.CharField(max_length=200)
    made = models.DateTimeField(auto_now_add=True)
