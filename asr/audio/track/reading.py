"""Reads one track of an opened file as samples: frames at their times, the wanted stretch, within limits."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from asr.audio.container import audio_track, check_plausible, opened, origin_s
from asr.audio.formats import flac
from asr.audio.integrity import (
    TOLERANCE_S,
    declared_s,
    fragments_behind,
    is_whole,
    last_granule,
    missing_end,
)
from asr.audio.track.decoder import CodecDecoder
from asr.audio.track.downmix import SAMPLE_RATE, Downmixer
from asr.audio.track.packet_times import packet_times
from asr.audio.track.packets import MAX_FAILURES, PacketAt, Packets
from asr.audio.track.peek import read_at, size_of
from asr.audio.track.presentation import LEAD_S, Clock
from asr.audio.track.raw_frames import RawFrames, kind_of
from asr.audio.track.seeking import AHEAD_S, JOINED, SeekMissed, can_seek, is_intact
from asr.audio.track.steady import steady
from asr.audio.track.stretch import Stretch
from asr.errors import DataError
from asr.sound import EACH, SoundChoice, SoundReport

if TYPE_CHECKING:
    from av.container import InputContainer

TOLD_PAUSE_S = 1.0  # the pauses of a codec that sends nothing while nobody speaks are shorter, and no news

MIN_CLAIM_S = 10.0  # what tells of more than this, and of more than all that was decoded, is not believed


class Reading:
    """A read of one track of an opened file into a stretch, with every frame at its time.

    ``from_near``: decoding may begin shortly before the stretch, else it begins with the file.
    """

    def __init__(
        self, stretch: Stretch, file: BinaryIO, media: InputContainer, choice: SoundChoice, from_near: bool = True
    ) -> None:
        if choice.channel == EACH:
            raise ValueError("each channel is a waveform of its own: ask for one after the other")
        self.stretch, self.media, self.file, self.choice = stretch, media, file, choice
        self.track = audio_track(media, stretch.place, choice.track)
        until_s = math.inf if stretch.end is None else stretch.end / SAMPLE_RATE
        tick_s, from_s = float(self.track.stream.time_base), stretch.start / SAMPLE_RATE
        self.kind = kind_of(media, self.track.stream)
        self.clock = Clock(self.kind, tick_s, origin_s(media), from_s, until_s)
        self.downmixer = Downmixer(stretch.place, choice)
        self.promised_s = declared_s(media, self.track.stream, file)
        self._from_near = from_near
        self.times = packet_times(media, self.track.stream, file)
        self.packets = Packets(media, self.track.stream, file)
        self.source_samples = 0

    def run(self) -> None:
        """Decode. Raises DataError, and SeekMissed before anything is handed over."""
        stretch = self.stretch
        self._refuse_too_long()
        try:
            for block in self._blocks():
                stretch.add(block)
                if stretch.complete:
                    return
        except (av.FFmpegError, ValueError) as error:  # PyAV raises plain ValueError for some malformed frames
            raise DataError(
                "corrupt", f"{stretch.place}: {error} after {stretch.position / SAMPLE_RATE:.2f} s"
            ) from None
        if stretch.start and not stretch.position:
            return  # sought beyond the end: nothing was decoded that could tell the length
        wanted_s = self.promised_s if stretch.end is None else stretch.end / SAMPLE_RATE
        decoded_s = stretch.position / SAMPLE_RATE
        lost = (self.times.cut(decoded_s) if self.times else "") or missing_end(self.file, decoded_s, wanted_s)
        if lost:
            raise DataError("truncated", f"{stretch.place}: {lost}")

    def report(self, samples: int) -> SoundReport:
        """Return what was found. Raises DataError corrupt where too much of it is damaged."""
        damaged_s, limit = self.clock.damaged.total_s, self.stretch.limits.max_damaged_share
        if damaged_s > limit * samples / SAMPLE_RATE:
            what = f"{damaged_s:.2f} of {samples / SAMPLE_RATE:.2f} s cannot be decoded, {self.clock.damaged.told()}"
            raise DataError("corrupt", f"{self.stretch.place}: {what}")
        return SoundReport(
            samples=samples,
            track=self.track.number,
            tracks=self.track.count,
            channel=self.downmixer.channel,
            channels=self.downmixer.channels,
            damaged_s=round(damaged_s, 3),
            warnings=tuple(self._warnings()),
        )

    def _warnings(self) -> Iterator[str]:
        track, clock, downmixer = self.track, self.clock, self.downmixer
        if track.count > 1 and self.choice.track is None:
            yield f"track {track.number} of {track.count} was taken (they count from 0)"
        if downmixer.cancelled:
            cancelled_s = downmixer.cancelled / SAMPLE_RATE
            yield f"the channels cancel each other for {cancelled_s:.2f} s: channel {downmixer.taken} was taken there"
        if clock.damaged.found:
            yield f"not decodable: silence {clock.damaged.told()}"
        if clock.paused.total_s > TOLD_PAUSE_S:
            yield f"no sound in the file, by its clock: silence {clock.paused.told()}"

    def _refuse_too_long(self) -> None:
        stretch, promised_s, limit_s = self.stretch, self.promised_s or 0.0, self.stretch.limits.max_audio_s
        rate = self.track.stream.codec_context.bit_rate or 0
        if rate and promised_s * rate / 8 > 2 * size_of(self.file):
            return  # most of what is promised is not there: that is the news, and its length is nobody's
        if stretch.end is None and promised_s - stretch.start / SAMPLE_RATE > limit_s:
            raise DataError("too_long", f"{stretch.place}: {promised_s:.1f} s, over {limit_s:g} s")

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield 16 kHz blocks from shortly before the stretch on, having told it where the first one lies."""
        sought = self._from_near and (not self.times or self.times.seekable) and self._seek()
        for frame in self._frames():
            self._check(frame)
            if sought:
                self._land(frame)
                sought = False
            silent_s = self.clock.place(frame)
            if silent_s:
                yield from self.downmixer.flush()
                yield from self.stretch.silence(self.clock.now_s - frame.samples / frame.sample_rate)
            yield from self.downmixer.push(frame)
        if sought and not self.clock.untimed:
            raise SeekMissed  # nothing came
        yield from self.downmixer.flush()
        self._end()
        yield from self.stretch.silence(self.clock.now_s)
        joints = self.packets.joints
        for start, end in pairwise([*joints, size_of(self.file)] if joints else []):
            yield from self._joined(start, end)

    def _joined(self, start: int, end: int) -> Iterator[NDArray[np.float32]]:
        """Yield the blocks of a part that was joined to what is before it in the file."""
        place, limits, clock = self.stretch.place, self.stretch.limits, self.clock
        try:
            with opened(read_at(self.file, start, end - start)) as (_, file, media):
                part = Reading(Stretch(place, 0.0, None, limits, lambda block: None), file, media, self.choice)
                part.source_samples = self.source_samples
                for block in part._blocks():
                    part.stretch.add(block)
                    yield block
                self.source_samples = part.source_samples
                clock.follow(part.clock)
        except DataError as error:
            if error.reason != "not_audio":
                raise
            clock.fill(clock.now_s * end / start, damaged=True)  # nothing says how long it is, but its size
            yield from self.stretch.silence(clock.now_s)

    def _seek(self) -> bool:
        """Have the packets begin shortly before the stretch. Raises SeekMissed."""
        start_s, clock = self.stretch.start / SAMPLE_RATE, self.clock
        end_s = start_s if self.stretch.end is None else self.stretch.end / SAMPLE_RATE
        stream = self.track.stream
        if start_s <= AHEAD_S or not can_seek(self.media, stream, self.file, self._told_s(), end_s):
            return False
        stamp_s = origin_s(self.media) + start_s - AHEAD_S
        until = stamp_s / float(stream.time_base)
        if (clock.untimed or self.kind in JOINED) and not is_intact(self.media, stream, self.file, self.kind, until):
            raise SeekMissed
        with contextlib.suppress(av.FFmpegError):  # then decoding begins at the beginning, as the timestamps say
            self.media.seek(int(stamp_s * 1e6))
        return True

    def _told_s(self) -> float:
        """Return where FFmpeg takes the end to be, certain or not; 0 where it does not know."""
        stream = self.track.stream
        ticks = None if stream.duration is None else stream.duration + (stream.start_time or 0)
        return self.clock.seconds(ticks) or float(self.media.duration or 0) / 1e6

    def _land(self, frame: av.AudioFrame) -> None:
        """Find out where the first frame after a seek lies. Raises SeekMissed where that is behind what is wanted."""
        landed_s, track_s = self.clock.seconds(frame.pts), self.clock.seconds(self.track.stream.start_time)
        start_s = self.stretch.start / SAMPLE_RATE
        if landed_s is None:
            raise SeekMissed
        lead = track_s is not None and landed_s <= track_s + LEAD_S
        if landed_s > start_s and not lead:
            raise SeekMissed
        begin_s = max(min(landed_s, start_s), 0.0)
        self.stretch.position = round(begin_s * SAMPLE_RATE)
        self.clock.begin(begin_s, lead=lead)

    def _check(self, frame: av.AudioFrame) -> None:
        check_plausible(self.stretch.place, frame.sample_rate, frame.layout.nb_channels)
        self.source_samples += frame.samples * frame.layout.nb_channels
        limit = self.stretch.limits.max_source_samples
        if self.source_samples > limit:
            raise DataError("too_large", f"{self.stretch.place}: decodes to over {limit:,} samples")

    def _frames(self) -> Iterator[av.AudioFrame]:
        stream, clock = self.track.stream, self.clock
        raw = RawFrames(self.file, self.kind) if clock.untimed else None
        in_ogg, block = self.media.format.name == "ogg" and stream.codec_context.name == "flac", 0
        decoder = CodecDecoder(stream.codec_context)
        for packet, skipped in self._timed():
            placed = packet.pos is not None and packet.size > 0
            if placed:
                clock.skip(skipped + (raw.skipped(packet) if raw else 0))
                if raw and raw.is_tag(packet):
                    clock.ignore(packet)
                    continue
            try:
                frames = decoder.decode(packet)
                if in_ogg and len(frames) == 1:
                    block = block or frames[0].samples
                    frames[0].pts = flac.position(bytes(packet), block)
                yield from frames
            except av.FFmpegError:  # what it means depends on what follows
                if raw and placed and raw.lose(packet):
                    clock.ignore(packet)
                elif packet.size:
                    clock.lose(packet, junk=bool(raw and not raw.is_frame(packet)))
            else:
                clock.keep(packet)
                if raw and placed:
                    raw.keep(packet)

    def _timed(self) -> Iterator[tuple[av.Packet, int]]:
        """Yield packets at their times, as far as they can be told, and the bytes before each that are in none."""
        found: Iterable[PacketAt] = self.packets
        for each in found if self.clock.untimed else steady(found, float(self.track.stream.time_base)):
            if self.times:  # they tell it better than bytes
                self.clock.miss(self.times.place(each.packet))
            yield each.packet, 0 if self.times else each.skipped
        if self.packets.given_up and self.promised_s is None:  # else it is seen whether the end is missing
            raise DataError("corrupt", f"{self.stretch.place}: {MAX_FAILURES} places in a row that cannot be read")

    def _end(self) -> None:
        """Have the clock go on where sound is missing behind the last frame."""
        believed_s = self.clock.now_s + max(self.clock.now_s, MIN_CLAIM_S)
        if self.times:
            end_s, lost = self.times.end()
            self.clock.fill(end_s - origin_s(self.media), damaged=lost)
        else:
            self.clock.finish(believed_s if self.promised_s is None else self.promised_s)
        if self.promised_s is not None:
            self._finish(self.promised_s)
        if self.media.format.name == "ogg" and len(self.media.streams) == 1 and not self.packets.joints:
            told_s = self.clock.seconds(last_granule(self.file, self.packets.read_bytes)) or 0.0
            if self.clock.now_s + TOLERANCE_S < told_s < believed_s:
                self.clock.fill(told_s, damaged=True)
        behind = fragments_behind(self.media, self.track.stream, self.file, self.packets.read_bytes)
        if behind:  # nothing says how long they are, but their size
            self.clock.fill(self.clock.now_s * size_of(self.file) / self.packets.read_bytes, damaged=True)

    def _finish(self, promised_s: float) -> None:
        """Have the clock go on to the end that was promised, where the file is there to its end."""
        clock = self.clock
        if not clock.now_s or promised_s - clock.now_s <= TOLERANCE_S:
            return
        missing, unread = 1.0 - clock.now_s / promised_s, 1.0 - self.packets.read_bytes / max(size_of(self.file), 1)
        if unread > missing / 2:  # the file goes on, but what is there could not be told apart any more
            clock.fill(promised_s, damaged=True)
        elif clock.reached_s >= promised_s - TOLERANCE_S or is_whole(self.media, self.file):
            clock.fill(promised_s, damaged=False)  # nothing was sent any more: a muted microphone
