/*
 * The peer of the flip benchmarks: a C program that flips one plane between existing framebuffers,
 * with one atomic ioctl, one poll(2) and one read of the event per flip.
 *
 *     flip-loop CARD WARM-UP FLIPS PLANE FB,FB... FB-PROPERTY PROPERTY=VALUE...
 *
 * Prints the processor time of FLIPS flips, in microseconds.
 */
#include <drm.h>
#include <drm_mode.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define MAX_PROPS 32
#define MAX_FBS 64

static uint32_t props[MAX_PROPS];
static uint64_t values[MAX_PROPS];
static uint32_t fbs[MAX_FBS];
static unsigned fb_count;
static struct drm_mode_atomic request;

static void drm(int fd, unsigned long number, void *argument, const char *name)
{
	while (ioctl(fd, number, argument) < 0)
		if (errno != EINTR && errno != EAGAIN)
			err(1, "%s", name);
}

static double cpu_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void flip(int fd, unsigned flips)
{
	for (unsigned i = 0; i < flips; i++) {
		values[0] = fbs[i % fb_count];
		drm(fd, DRM_IOCTL_MODE_ATOMIC, &request, "DRM_IOCTL_MODE_ATOMIC");
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		while (poll(&ready, 1, -1) < 0)
			if (errno != EINTR)
				err(1, "poll");
		char events[4096];
		if (read(fd, events, sizeof(events)) < (ssize_t)sizeof(struct drm_event_vblank))
			err(1, "read");
		const struct drm_event_vblank *event = (const void *)events;
		if (event->base.type != DRM_EVENT_FLIP_COMPLETE)
			errx(1, "event %u", event->base.type);
	}
}

int main(int argc, char **argv)
{
	if (argc < 7 || argc - 6 > MAX_PROPS)
		errx(1, "usage: flip-loop CARD WARM-UP FLIPS PLANE FB,FB... FB-PROPERTY PROPERTY=VALUE...");
	unsigned warm_up = atoi(argv[2]), flips = atoi(argv[3]);
	uint32_t plane = atoi(argv[4]);
	for (char *at = argv[5]; *at && fb_count < MAX_FBS; at += *at == ',')
		fbs[fb_count++] = strtoul(at, &at, 10);
	props[0] = atoi(argv[6]);
	uint32_t count = 1;
	for (; count < (uint32_t)argc - 6; count++) {
		char *end;
		props[count] = strtoul(argv[6 + count], &end, 10);
		values[count] = strtoll(end + 1, NULL, 10);
	}
	request = (struct drm_mode_atomic){
		.flags = DRM_MODE_PAGE_FLIP_EVENT | DRM_MODE_ATOMIC_NONBLOCK,
		.count_objs = 1,
		.objs_ptr = (uintptr_t)&plane,
		.count_props_ptr = (uintptr_t)&count,
		.props_ptr = (uintptr_t)props,
		.prop_values_ptr = (uintptr_t)values,
	};

	int fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", argv[1]);
	struct drm_set_client_cap atomic = { .capability = DRM_CLIENT_CAP_ATOMIC, .value = 1 };
	drm(fd, DRM_IOCTL_SET_CLIENT_CAP, &atomic, "DRM_IOCTL_SET_CLIENT_CAP");
	drm(fd, DRM_IOCTL_SET_MASTER, NULL, "DRM_IOCTL_SET_MASTER");
	flip(fd, warm_up);
	double before = cpu_us();
	flip(fd, flips);
	printf("%.1f\n", cpu_us() - before);
	return 0;
}
