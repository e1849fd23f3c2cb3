"""Makes the clips in tagger/samples: python tests/support/make_samples.py [folder]. For developers; no test runs it.

Needs Debian's fluidsynth and fluid-soundfont-gm, and the dev extra. What the clips are: tagger/samples/README.md.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from mediafile import MediaFile

SAMPLES = Path(__file__).parents[2] / "tagger" / "samples"
SOUND_FONT = "/usr/share/sounds/sf2/FluidR3_GM.sf2"
RATE = 44_100
TICKS_PER_BEAT = 480
DRUM_CHANNEL = 9
FADE_SECONDS = 0.8
PEAK = 0.8
CODECS = {
    ".flac": "flac",
    ".m4a": "aac",
    ".mp3": "libmp3lame",
    ".ogg": "vorbis",
    ".opus": "libopus",
    ".wav": "pcm_s16le",
}
EIGHTHS, SIXTEENTHS, SWUNG = (1 / 2,), (1 / 4,), (2 / 3, 1 / 3)


class Note(NamedTuple):
    start_beats: float
    length_beats: float
    pitch: int


class Part(NamedTuple):
    """What one instrument plays: a General MIDI program counted from 0, or None for the drum kit."""

    program: int | None
    notes: list[Note]
    volume: int = 100


def line(text: str, steps: Iterable[float] = (1.0,), shifts: Iterable[int] = (0,)) -> list[Note]:
    """Notes of a written line, played once for each shift (in semitones).

    `C4 F#4 C4+E4` are notes and a chord, `_` holds the one before, `-` rests; each lasts the next of `steps` in beats.
    """
    notes: list[Note] = []
    sounding: list[int] = []  # indices of the notes that a `_` holds
    lengths, now = cycle(steps), 0.0
    for shift in shifts:
        for token in text.split():
            length = next(lengths)
            if token == "_":
                for i in sounding:
                    notes[i] = notes[i]._replace(length_beats=notes[i].length_beats + length)
            else:
                pitches = [] if token == "-" else [midi_pitch(name) + shift for name in token.split("+")]
                sounding = list(range(len(notes), len(notes) + len(pitches)))
                notes += [Note(now, length, pitch) for pitch in pitches]
            now += length
    return notes


def midi_pitch(name: str) -> int:
    """MIDI number of a note name: A4 is 69."""
    letter, octave = name[:-1], int(name[-1])
    return 12 * (octave + 1) + ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"].index(letter)


def drums(steps: Iterable[float], n_bars: int, **patterns: str) -> list[Note]:
    """Notes of the drum kit: for each drum one bar, `x` is a stroke."""
    kit = {"kick": "C2", "rim": "C#2", "snare": "D2", "hat": "F#2", "pedal": "G#2", "ride": "D#3", "crash": "C#3"}
    bars = {kit[drum]: re.sub("x", f" {kit[drum]} ", bar).replace("-", " - ") for drum, bar in patterns.items()}
    return [note for bar in bars.values() for note in line(bar, steps, [0] * n_bars)]


def midi_file(parts: list[Part], beats_per_minute: float) -> bytes:
    """A standard MIDI file, format 0, that plays the parts together."""
    events: list[tuple[float, bytes]] = [(0, b"\xff\x51\x03" + round(60e6 / beats_per_minute).to_bytes(3, "big"))]
    channels = iter(channel for channel in range(16) if channel != DRUM_CHANNEL)
    for program, notes, volume in parts:
        channel = DRUM_CHANNEL if program is None else next(channels)
        events += [(0, bytes([0xC0 | channel, program or 0])), (0, bytes([0xB0 | channel, 7, volume]))]
        for start, length, pitch in notes:
            velocity = 104 if start % 1 < 0.01 else 88  # the beat is felt
            events += [
                (start, bytes([0x90 | channel, pitch, velocity])),
                (start + length * 0.95, bytes([0x80 | channel, pitch, 0])),
            ]
    track, now = b"", 0
    for beats, event in sorted(events, key=lambda timed: timed[0]):
        tick = round(beats * TICKS_PER_BEAT)
        track += variable_length(tick - now) + event
        now = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + bytes([0, 0, 0, 1]) + TICKS_PER_BEAT.to_bytes(2, "big")
    return header + b"MTrk" + len(track).to_bytes(4, "big") + track


def variable_length(number: int) -> bytes:
    """A number as MIDI writes it: 7 bits a byte, the high bit says that more follow."""
    head, last = divmod(number, 128)
    return (bytes([128 | byte for byte in variable_length(head)]) if head else b"") + bytes([last])


def orchestra(parts: list[Part], beats_per_minute: float, seconds: float) -> np.ndarray:
    """The parts as the sound font plays them, (n_samples, 2) float in [-1, 1]."""
    n_bytes = round(seconds * RATE) * 4
    with tempfile.TemporaryDirectory() as folder:
        score = Path(folder, "score.mid")
        score.write_bytes(midi_file(parts, beats_per_minute))
        command = ["fluidsynth", "-qni", "-r", str(RATE), "-T", "raw", "-O", "s16", "-E", "little", "-F", "/dev/stdout"]
        # Read as much as is wanted, then end it: left alone, fluidsynth may render without end.
        with subprocess.Popen([*command, SOUND_FONT, str(score)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            audio = process.stdout.read(n_bytes)
            process.kill()
    return np.frombuffer(audio.ljust(n_bytes, b"\0"), "<i2").reshape(-1, 2) / 32768


def prelude() -> np.ndarray:
    """J. S. Bach, Prelude in C major BWV 846, bars 1 to 7."""
    chords = """C4 E4 G4 C5 E5 | C4 D4 A4 D5 F5 | B3 D4 G4 D5 F5 | C4 E4 G4 C5 E5
                | C4 E4 A4 E5 A5 | C4 D4 F#4 A4 D5 | B3 D4 G4 D5 G5"""
    bars = [chord.split() for chord in chords.split("|")]
    high = " ".join(" ".join(["-", "-", *bar[2:], *bar[2:]] * 2) for bar in bars)
    low = " ".join(f"{first} _ _ _ _ _ _ _ " * 2 for first, *_ in bars)
    middle = " ".join(f"- {second} _ _ _ _ _ _ " * 2 for _, second, *_ in bars)
    return orchestra([Part(0, line(text, SIXTEENTHS)) for text in (high, low, middle)], 84, 20)


def canon() -> np.ndarray:
    """J. Pachelbel, Canon in D for three violins and continuo, each violin one ground behind the one before."""
    ground = line("D3 A2 B2 F#2 G2 D2 G2 A2", shifts=[0] * 3)
    organ = line("D3+F#3+A3 C#3+E3+A3 D3+F#3+B3 C#3+F#3+A3 B2+D3+G3 A2+D3+F#3 B2+D3+G3 C#3+E3+A3", shifts=[0] * 3)
    first = "F#5 _ E5 _ D5 _ C#5 _ B4 _ A4 _ B4 _ C#5 _ "
    second = "D5 _ C#5 _ B4 _ A4 _ G4 _ F#4 _ G4 _ E4 _ "
    third = "D4 F#4 A4 G4 F#4 D4 F#4 E4 D4 B3 D4 A4 G4 B4 A4 G4"
    wait = "- " * 16
    violins = [line(text, EIGHTHS) for text in (first + second + third, wait + first + second, wait + wait + first)]
    parts = [Part(40, notes) for notes in violins]
    return orchestra([*parts, Part(42, ground), Part(19, organ, 90)], 76, 20)


def ode_to_joy() -> np.ndarray:
    """L. van Beethoven, Symphony No. 9, the theme of the finale, set here for strings in four parts."""
    melody = "F#4 _ F#4 _ G4 _ A4 _ A4 _ G4 _ F#4 _ E4 _ D4 _ D4 _ E4 _ F#4 _ "
    alto = "D4 _ D4 _ E4 _ F#4 _ F#4 _ E4 _ D4 _ C#4 _ A3 _ A3 _ C#4 _ D4 _ "
    tenor = "A3 _ A3 _ A3 _ A3 _ A3 _ A3 _ A3 _ A3 _ F#3 _ F#3 _ A3 _ A3 _ "
    bass = "D3 _ D3 _ C#3 _ D3 _ F#2 _ C#3 _ D3 _ A2 _ D3 _ D3 _ A2 _ D3 _ "
    endings = {
        melody: ("F#4 _ _ E4 E4 _ _ _ ", "E4 _ _ D4 D4 _ _ _"),
        alto: ("D4 _ _ C#4 C#4 _ _ _ ", "C#4 _ _ A3 A3 _ _ _"),
        tenor: ("A3 _ _ A3 A3 _ _ _ ", "G3 _ _ F#3 F#3 _ _ _"),
        bass: ("A2 _ _ A2 A2 _ _ _ ", "A2 _ _ D3 D3 _ _ _"),
    }
    first, *others = [line(voice + half + voice + close, EIGHTHS) for voice, (half, close) in endings.items()]
    octave = [note._replace(pitch=note.pitch + 12) for note in first]
    return orchestra([Part(48, notes, 110) for notes in (first, octave, *others)], 116, 18.5)


def largo() -> np.ndarray:
    """A. Dvořák, Symphony No. 9, the tune of the Largo: cor anglais above strings, which are set here."""
    up = [1]  # written in C, sounds in D flat
    tune = "E4 _ _ G4 G4 _ _ _ E4 _ _ D4 C4 _ _ _ "
    first = tune + "D4 _ _ E4 G4 _ _ E4 D4 _ _ _ _ _ _ _ "
    second = tune + "D4 _ _ E4 D4 _ _ C4 C4 _ _ _ _ _ _ _"
    strings = "C3+G3+C4+E4 A2+E3+C4 F3+A3+D4 G2+G3+B3+D4 C3+G3+C4+E4 A2+E3+C4 G2+F3+B3+D4 C3+G3+C4+E4"
    return orchestra([Part(69, line(first + second, SIXTEENTHS, up)), Part(48, line(strings, (2,), up), 90)], 52, 20)


def blues() -> np.ndarray:
    """A twelve-bar shuffle in A."""
    changes = (0, 0, 0, 0, 5, 5, 0, 0, 7, 5, 0, 7)
    boogie = line("A2+E3 A2+E3 A2+F#3 A2+F#3 " * 2, SWUNG, changes)
    bass = line("A1 C#2 E2 F#2", shifts=changes)
    harp = line(
        """- - E5 G5 A5 _ _ _  C6 _ A5 G5 E5 _ _ _  - - - - - - - -  A5 G5 E5 D5 C5 _ A4 _
           - - E5 G5 A5 _ _ _  C6 _ A5 G5 F5 _ D5 _  E5 _ _ _ - - - -  A5 G5 E5 D5 C5 _ A4 _
           B4 _ D5 E5 _ _ D5 B4  A4 _ C5 D5 _ _ C5 A4  A4 C5 D5 E5 G5 _ A5 _  G#4 _ B4 _ E5 _ _ _""",
        SWUNG,
    )
    kit = drums(SWUNG, 12, kick="x---x---", snare="--x---x-", ride="x-xxx-xx")
    return orchestra([Part(29, boogie, 75), Part(33, bass, 110), Part(22, harp, 95), Part(None, kit, 100)], 138, 21)


def rock() -> np.ndarray:
    """A riff in power chords."""
    riff = """E2+B2 E2+B2 - E2+B2 G2+D3 _ A2+E3 _  E2+B2 E2+B2 - E2+B2 A#2+F3 A2+E3 _ _
              E2+B2 E2+B2 - E2+B2 G2+D3 _ A2+E3 _  G2+D3 _ E2+B2 _ _ _ _ _"""
    bass = re.sub(r"\+\S+", "", riff)
    kit = drums(EIGHTHS, 8, kick="x--xx---", snare="--x---x-", hat="xxxxxxxx")
    kit += drums((4,), 1, crash="x---")
    guitars = line(riff, EIGHTHS, (0, 0))
    return orchestra([Part(30, guitars, 90), Part(34, line(bass, EIGHTHS, (-12, -12)), 110), Part(None, kit)], 132, 15)


def reggae() -> np.ndarray:
    """The guitar on the off-beat, the drums on the third beat."""
    skank = line("- A3+C4+E4 " * 4 + "- A3+D4+F4 " * 4, EIGHTHS, [0] * 3)
    organ = line("- C4+E4 C4+E4 - " * 4 + "- D4+F4 D4+F4 - " * 4, SIXTEENTHS * 2, [0] * 3)
    bass = line("A1 _ - A1 C2 _ E2 -  D2 _ - D2 A1 _ G1 -", EIGHTHS, [0] * 3)
    tune = line("- - E5 _ D5 C5 A4 _  - - F5 _ E5 D5 A4 _ " * 2 + "- - E5 _ G5 E5 D5 C5  D5 _ C5 _ A4 _ _ _", EIGHTHS)
    kit = drums(EIGHTHS, 6, kick="----x---", rim="----x---", hat="xxxxxxxx")
    parts = [Part(27, skank, 100), Part(16, organ, 60), Part(33, bass, 127), Part(22, tune, 80), Part(None, kit, 90)]
    return orchestra(parts, 78, 18)


def swing() -> np.ndarray:
    """A walking bass under ii-V-I-VI in C."""
    bass = line("D2 E2 F2 F#2 G2 F2 E2 D2 C2 E2 G2 G#2 A2 G2 E2 C#2", shifts=[0] * 3)
    chords = ("F3+C4+E4", "F3+B3+E4", "E3+B3+D4", "G3+C#4+F4")
    piano = line(" ".join(f"{chord} _ - {chord} - - - -" for chord in chords), SWUNG, [0] * 3)
    tune = line(
        """- D5 F5 A5 C6 _ A5 F5  B5 _ G5 F5 D5 _ _ _  E5 G5 B5 D6 _ B5 G5 E5  C#5 _ E5 G5 A#5 _ A5 _
           F5 _ _ D5 - D5 F5 A5  G#5 A5 B5 G5 F5 _ D5 _  E5 _ _ _ - G4 B4 D5  C#5 E5 G5 A#5 _ _ A5 _
           A5 _ F5 _ D5 _ C5 _  B4 D5 F5 A5 G#5 _ G5 _  E5 _ D5 C5 _ _ _ _  - - - - - - - -""",
        SWUNG,
    )
    kit = drums(SWUNG, 12, ride="x-xxx-xx", pedal="--x---x-", kick="x-------")
    return orchestra([Part(32, bass, 120), Part(0, piano, 75), Part(66, tune, 95), Part(None, kit, 90)], 160, 18)


def techno() -> np.ndarray:
    """Four on the floor, an acid line above it: no sound font, all from sines and noise."""
    n_bars, beat = 8, round(RATE * 60 / 128)
    step, n_samples = beat // 4, n_bars * 4 * beat
    noise = np.random.default_rng(seed=0).standard_normal(n_samples)
    bright = np.diff(noise, 2, prepend=[0, 0])
    seconds = np.arange(n_samples) / RATE
    since_beat, since_off_beat = seconds % (beat / RATE), (seconds + beat / RATE / 2) % (beat / RATE)
    since_clap, since_step = (seconds - beat / RATE) % (2 * beat / RATE), seconds % (step / RATE)
    kick = np.sin(2 * np.pi * (50 * since_beat - 7 * np.exp(-since_beat * 30))) * np.exp(-since_beat * 9)
    hat, clap = bright * np.exp(-since_off_beat * 45), noise * np.exp(-since_clap * 25) * (seconds > beat / RATE)
    pattern = [note.pitch for note in line("A1 A1 A2 A1 C2 A1 G2 A1 A1 A2 A1 D#2 A1 E2 G1 A1")]
    pitches = np.repeat(np.resize(pattern, n_bars * 16), step)[:n_samples]
    hertz = np.pad(440 * 2 ** ((pitches - 69) / 12), (0, n_samples - len(pitches)), mode="edge")
    cutoff = (300 + 1700 * np.sin(np.pi * seconds / seconds[-1])) * np.exp(-since_step * 6)
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    acid = np.zeros(n_samples)
    for k in range(1, 50):  # a saw-tooth through a resonant low-pass filter, harmonic by harmonic
        ratio = k * hertz / cutoff
        acid += np.sin(k * phase) / k / np.sqrt((1 - ratio**2) ** 2 + (ratio / 5) ** 2)
    ducked = acid * np.exp(-since_step * 5) * (1 - np.exp(-since_beat * 12))
    mix = 0.9 * kick + 0.06 * hat + 0.12 * clap + 0.2 * ducked / np.abs(ducked).max() * 3
    return np.tanh(mix)[:, None]


def waves() -> np.ndarray:
    """Noise that swells and falls like the sea."""
    n_samples = 8 * RATE
    spectrum = np.fft.rfft(np.random.default_rng(seed=0).standard_normal(n_samples))
    hertz = np.fft.rfftfreq(n_samples, 1 / RATE)
    sea = np.fft.irfft(spectrum / np.maximum(hertz, 80) ** 0.8, n_samples)
    return (sea * (0.15 + np.sin(np.pi * np.arange(n_samples) / RATE / 4) ** 4))[:, None]


def silence() -> np.ndarray:
    """Nothing at all."""
    return np.zeros((12 * RATE, 1))


class Clip(NamedTuple):
    file: str
    title: str
    artist: str
    play: Callable[[], np.ndarray]
    genre: str = ""
    rate: int = 32_000
    kbit_per_second: int = 48  # the lossless formats and FFmpeg's Vorbis encoder take what they need
    licence: str = "CC0-1.0, MIT"  # MIT for the sound font


OWN = "genre-tag samples"
CLIPS = (
    Clip("Bach - Prelude in C.mp3", "Prelude in C, BWV 846", "Johann Sebastian Bach", prelude),
    Clip("Beethoven - Ode to Joy.ogg", "Ode to Joy", "Ludwig van Beethoven", ode_to_joy, genre="Unknown"),
    Clip("Dvorak - Largo.opus", "Largo", "Antonín Dvořák", largo, rate=48_000, kbit_per_second=32),
    Clip("Pachelbel - Canon in D.mp3", "Canon in D", "Johann Pachelbel", canon),
    Clip("Four on the Floor.opus", "Four on the Floor", OWN, techno, rate=48_000, licence="CC0-1.0"),
    Clip("Off-Beat.m4a", "Off-Beat", OWN, reggae),
    Clip("Power Chords.flac", "Power Chords", OWN, rock, genre="Rock", rate=16_000),
    Clip("Twelve-Bar Shuffle.mp3", "Twelve-Bar Shuffle", OWN, blues),
    Clip("Walking Bass.m4a", "Walking Bass", OWN, swing, genre="Jazz"),
    Clip("Waves.wav", "Waves", OWN, waves, rate=11_025, licence="CC0-1.0"),
    Clip("Silence.flac", "Silence", OWN, silence, licence="CC0-1.0"),
)


def finished(waveform: np.ndarray) -> np.ndarray:
    """The waveform in mono, (n_samples,) float32, at one loudness peak and faded out."""
    mono = waveform.mean(axis=1)
    n_fade = round(FADE_SECONDS * RATE)
    mono[-n_fade:] *= np.linspace(1, 0, n_fade)
    return (mono * PEAK / max(np.abs(mono).max(), 1e-9)).astype(np.float32)


def encode(waveform: np.ndarray, clip: Clip, path: Path) -> None:
    """Write a waveform, (n_samples,) at 44.1 kHz, to an audio file; the suffix names the format."""
    frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
    frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
    frame.pts = 0  # without it Ogg Vorbis claims a sixteenth of its length
    layout = "stereo" if path.suffix == ".ogg" else "mono"  # FFmpeg's own Vorbis encoder knows nothing else
    # bitexact: without it Ogg gets a random serial number, and every run makes other files
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(CODECS[path.suffix], rate=clip.rate, layout=layout, options={"strict": "-2"})
        stream.bit_rate = clip.kbit_per_second * 1000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def tag(clip: Clip, path: Path) -> None:
    """Write title, artist, album, licence and, where the clip has one, genre; ID3v2.3 for Bach, ID3v2.4 for others."""
    file = MediaFile(str(path), id3v23=path.name.startswith("Bach"))
    file.title, file.artist, file.album = clip.title, clip.artist, OWN
    file.comments = f"{clip.licence}; made by tests/support/make_samples.py of genre-tag"
    if clip.genre:
        file.genre = clip.genre
    file.save()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
    folder.mkdir(parents=True, exist_ok=True)
    for clip in CLIPS:
        path = folder / clip.file
        encode(finished(clip.play()), clip, path)
        tag(clip, path)
        print(f"{path.stat().st_size / 1000:6.0f} kB  {path}")


if __name__ == "__main__":
    main()
