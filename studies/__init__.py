"""The study: experiments of the reference documents and their claims, run on cubes, written as a page."""
