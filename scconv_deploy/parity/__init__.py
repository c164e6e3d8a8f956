"""Is the artifact the user's function? Cases, end-to-end comparison, teacher-forced pieces, the verdict."""
