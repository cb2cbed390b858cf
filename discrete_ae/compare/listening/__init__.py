"""Blind listening: a test of the MUSHRA kind on the clips of a comparison, in a browser on this machine.

ITU-R BS.1534-3, "Method for the subjective assessment of intermediate quality level of audio systems" (2015),
https://www.itu.int/rec/R-REC-BS.1534. What is followed stands where it is done, with its section. What is not:

- One anchor in place of two where the recordings have hardly more band than the mid anchor would (`anchor`); then the
  post-screening by the mid anchor falls away (§4.1.2, §5.1).
- Loudness is left as the report has it; §7.1 has it adjusted by a panel beforehand.
- Practice is one clip with all of its conditions, and may be skipped; §5.2 makes training mandatory.
- Level, room and transducer are the listener's (§8 prescribes them), and nobody selects the listeners (§4.1).
- No part of a clip can be looped by itself, only the whole (§5.3).
- Whoever reads the traffic between browser and program can tell the conditions apart; it is blind to those who listen.
"""
