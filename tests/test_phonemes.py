from audioml.phonemes import split_phonemes


def test_phonemes_keep_their_marks_and_lose_their_stress() -> None:
    assert split_phonemes("həlˈoʊ") == ("h", "ə", "l", "o", "ʊ")
    assert split_phonemes("wˈɜːld") == ("w", "ɜː", "l", "d")
    assert split_phonemes("t\u0361ʃɔ̃") == ("t\u0361ʃ", "ɔ\u0303")
