/*
 * The peer of the copy benchmark: copies rectangles of a picture from ordinary memory to ordinary
 * memory in C. One call runs all frames of a sample.
 */
#include <stdint.h>
#include <string.h>

struct rect {
	int32_t x, y, width, height;
};

/*
 * Frame f, counted from `first`, copies the rectangles starts[f % cycle] .. starts[f % cycle + 1] - 1 from
 * from[f % sources] to to[f % targets]; 4 bytes per pixel, both pictures with the same stride in bytes.
 */
void copy_frames(uint8_t *const *to, uint32_t targets, uint8_t *const *from, uint32_t sources, uint32_t stride,
		 const struct rect *rects, const uint32_t *starts, uint32_t cycle, uint32_t first, uint32_t frames)
{
	for (uint32_t f = first; f < first + frames; f++) {
		uint8_t *dst = to[f % targets];
		const uint8_t *src = from[f % sources];
		for (uint32_t i = starts[f % cycle]; i < starts[f % cycle + 1]; i++) {
			const struct rect *r = &rects[i];
			uint64_t at = (uint64_t)r->y * stride + (uint64_t)r->x * 4;
			uint32_t length = (uint32_t)r->width * 4;
			if (length == stride) {
				memcpy(dst + at, src + at, (size_t)length * r->height);
				continue;
			}
			for (int32_t row = 0; row < r->height; row++, at += stride)
				memcpy(dst + at, src + at, length);
		}
	}
}
