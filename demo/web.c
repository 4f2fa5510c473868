/* The demo's program: a small web server's main loop with 64 MB of sessions, and a bug. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS (64u * 1024 * 1024 / sizeof(struct session))

struct session {
	struct session *next;
	uint64_t id;
	uint32_t hits;
	uint32_t expires;
	char user[40];
};

static uint32_t expiry_after(const struct session *session)
{
	return session->next->expires; /* the bug: the last session has no next */
}

static uint32_t find_expiry(const struct session *sessions, uint64_t id)
{
	const struct session *session = sessions;

	while (session->id != id)
		session = session->next;
	return expiry_after(session);
}

static void handle_request(const struct session *sessions, const char *path)
{
	uint64_t id = strtoull(strrchr(path, '/') + 1, NULL, 10);

	printf("good until %u\n", find_expiry(sessions, id));
}

static void serve(const struct session *sessions)
{
	char path[64];

	snprintf(path, sizeof path, "/session/%zu", (size_t)SESSIONS - 1);
	printf("GET %s\n", path);
	fflush(stdout);
	handle_request(sessions, path);
}

int main(void)
{
	struct session *sessions = calloc(SESSIONS, sizeof *sessions);

	if (!sessions)
		return 1;
	for (size_t i = 0; i < SESSIONS; i++) {
		sessions[i].next = i + 1 < SESSIONS ? &sessions[i + 1] : NULL;
		sessions[i].id = i;
		sessions[i].hits = (uint32_t)(i * 2654435761u);
		sessions[i].expires = 1700000000u + (uint32_t)i;
		snprintf(sessions[i].user, sizeof sessions[i].user, "user-%zu@example.com", i);
	}
	printf("serving %zu sessions\n", (size_t)SESSIONS);
	serve(sessions);
	return 0;
}
