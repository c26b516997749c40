/*
 * A VNC viewer on Debian's libvncclient that clicks. client SOCKET X Y: for each line of stdin it clicks at pixel X, Y and prints
 * the microseconds until it has another first pixel.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <rfb/rfbclient.h>

#define PATIENCE_US 10000000

static long long now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static uint32_t first_pixel(const rfbClient *client)
{
	uint32_t pixel;
	memcpy(&pixel, client->frameBuffer, sizeof pixel);
	return pixel;
}

/* Handles a message if one comes in that time; every update asks for the next. */
static int handle_message(rfbClient *client, unsigned us)
{
	int n = WaitForMessage(client, us);
	return n > 0 && !HandleRFBServerMessage(client) ? -1 : n;
}

int main(int argc, char **argv)
{
	if (argc != 4) return 2;
	int x = atoi(argv[2]), y = atoi(argv[3]), n;
	char line[16];
	rfbClient *client = rfbGetClient(8, 3, 4);
	rfbEnableClientLogging = FALSE;
	free(client->serverHost);
	client->serverHost = strdup(argv[1]);
	if (!rfbInitClient(client, NULL, NULL)) return 1;
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		while ((n = handle_message(client, 0)) > 0) continue;
		uint32_t before = first_pixel(client);
		long long start = now_us();
		if (n < 0 || !SendPointerEvent(client, x, y, rfbButton1Mask) || !SendPointerEvent(client, x, y, 0)) return 1;
		while (first_pixel(client) == before)
			if (handle_message(client, PATIENCE_US) <= 0) return 1;
		printf("%lld\n", now_us() - start);
		fflush(stdout);
	}
	rfbClientCleanup(client);
	return 0;
}
