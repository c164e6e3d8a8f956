"""Open a bundle and run it, with numpy and the backend alone: what an application embeds."""
