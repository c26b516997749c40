/**
 * The Remote Framebuffer protocol of VNC: RFC 6143, and the extensions that the community document of the protocol
 * (github.com/rfbproto/rfbproto) describes. All integers are big-endian.
 */

/** What each side says first. Versions other than 3.7 and 3.8 count as 3.3. */
export const RFB_VERSION = 'RFB 003.008\n';

export const RFB_SECURITY_NONE = 1;
export const RFB_SECURITY_VNC = 2;
/** Of the challenge that VNC authentication encrypts with the password, 8 bytes at a time. */
export const RFB_CHALLENGE_LENGTH = 16;
export const RFB_PASSWORD_LENGTH = 8;

/** Types of messages from a client. */
export const RFB_CLIENT = {
  SET_PIXEL_FORMAT: 0,
  SET_ENCODINGS: 2,
  FRAMEBUFFER_UPDATE_REQUEST: 3,
  KEY_EVENT: 4,
  POINTER_EVENT: 5,
  CLIENT_CUT_TEXT: 6,
  ENABLE_CONTINUOUS_UPDATES: 150,
  FENCE: 248,
  SET_DESKTOP_SIZE: 251,
  QEMU: 255,
} as const;

/** Submessage of RFB_CLIENT.QEMU. */
export const RFB_QEMU_EXTENDED_KEY = 0;

/** Types of messages from a server. */
export const RFB_SERVER = {
  FRAMEBUFFER_UPDATE: 0,
  SET_COLOUR_MAP_ENTRIES: 1,
  END_OF_CONTINUOUS_UPDATES: 150,
  FENCE: 248,
} as const;

/** Encodings of rectangles, and what a client says it understands in the same list. */
export const RFB_ENCODING = {
  RAW: 0,
  COPY_RECT: 1,
  TIGHT: 7,
  ZRLE: 16,
  DESKTOP_SIZE: -223,
  CURSOR: -239,
  /** The highest of ten levels of compression. */
  COMPRESSION_9: -247,
  COMPRESSION_0: -256,
  QEMU_EXTENDED_KEY: -258,
  EXTENDED_DESKTOP_SIZE: -308,
  FENCE: -312,
  CONTINUOUS_UPDATES: -313,
} as const;

export const RFB_FENCE_BLOCK_BEFORE = 1;
export const RFB_FENCE_BLOCK_AFTER = 2;
export const RFB_FENCE_SYNC_NEXT = 4;
export const RFB_FENCE_REQUEST = 0x8000_0000;
export const RFB_FENCE_MAX_PAYLOAD = 64;

/** Reasons for an ExtendedDesktopSize rectangle, in its x. */
export const RFB_RESIZED_BY_SERVER = 0;
export const RFB_RESIZED_BY_CLIENT = 1;

/** Results of SetDesktopSize, in the y of an ExtendedDesktopSize rectangle. */
export const RFB_RESIZE_PROHIBITED = 1;
export const RFB_RESIZE_INVALID = 3;
/** The guest decides about its mode, later. */
export const RFB_RESIZE_FORWARDED = 4;

/* Bytes of compression control of a Tight rectangle, whose bits 4 and 5 are the number of the zlib stream. */
export const TIGHT_FILL = 0x80;
export const TIGHT_EXPLICIT_FILTER = 0x40;
export const TIGHT_FILTER_PALETTE = 1;
export const TIGHT_MAX_WIDTH = 2048;
/** Less is not compressed. */
export const TIGHT_MIN_COMPRESSED = 12;

export const ZRLE_TILE = 64;
export const ZRLE_PLAIN_RLE = 128;

/** Bits of a pointer event's mask that are turns of a wheel: up, down, left, right. */
export const RFB_WHEEL_BITS = { UP: 3, DOWN: 4, LEFT: 5, RIGHT: 6 } as const;
