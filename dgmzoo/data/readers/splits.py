"""`split_of_name`: the split (train, valid, test) that a folder or an array is named after, in the usual spellings."""

SPLITS = ("train", "valid", "test")
_SPLIT_OF_NAME = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_of_name(name: str) -> str | None:
    """The split that a name stands for, in any case; None if it stands for none.

    >>> split_of_name("Train"), split_of_name("val"), split_of_name("cat")
    ('train', 'valid', None)
    """
    return _SPLIT_OF_NAME.get(name.lower())


def split_in_name(name: str) -> str | None:
    """The split whose name is a word of `name`, as of `train_images` and `X-test`; None if none is.

    >>> split_in_name("train_images"), split_in_name("X-test"), split_in_name("trainers")
    ('train', 'test', None)
    """
    words = "".join(character if character.isalnum() else " " for character in name).split()
    return next((split for split in map(split_of_name, words) if split), None)
