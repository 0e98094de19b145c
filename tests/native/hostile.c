/* Thousands of sessions with a peer that does everything but grant: hostile SESSIONS SEED.
 *
 * Same seed, same sessions. Ends with status 1 when one of them grants, or when the controls (a right RESULT for each
 * outcome) do not give the PAM code that they should.
 */
#include "../fuzz/relay_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PACKETS = 12, MOST_SIZE = 5000, RESULT_SIZE = WIRE_HEADER + 1 + 4 + WIRE_NONCE };

static uint64_t state;

/* SplitMix64: small, and the same everywhere. */
static uint32_t any(uint32_t below) {
    state += 0x9e3779b97f4a7c15;
    uint64_t mixed = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return (uint32_t)((mixed ^ (mixed >> 31)) % below);
}

static void fill(uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)any(256);
}

static size_t result(uint8_t *bytes, uint8_t outcome) {
    const uint8_t head[] = {WIRE_VERSION, FRAME_RESULT, 0, RESULT_SIZE - WIRE_HEADER, outcome, 0, 0, 0, 0};
    memcpy(bytes, head, sizeof head);
    memcpy(bytes + sizeof head, session_nonce, WIRE_NONCE);
    return RESULT_SIZE;
}

static size_t well_formed(uint8_t *bytes) {
    static const uint8_t types[] = {FRAME_ASK, FRAME_ASK_SECRET, FRAME_TELL, FRAME_WARN, FRAME_ALIVE};
    static const size_t sizes[] = {0, 1, 20, 512, 4095, 4096};
    size_t size = sizes[any(6)];
    uint8_t type = any(8) ? types[any(5)] : (uint8_t)any(256);
    if (type == FRAME_ALIVE)
        size = any(8) ? 0 : size;
    bytes[0] = WIRE_VERSION;
    bytes[1] = type;
    bytes[2] = (uint8_t)(size >> 8);
    bytes[3] = (uint8_t)size;
    memset(bytes + WIRE_HEADER, 'x', size);
    if (type == FRAME_TELL && size > 0)
        bytes[WIRE_HEADER] = (uint8_t)any(2);
    return WIRE_HEADER + size;
}

/* A packet that is right in nearly everything, or in nothing; never a grant. */
static size_t hostile_packet(uint8_t *bytes) {
    size_t size = 0;
    uint32_t kind = any(10);
    if (kind < 5) {
        size = well_formed(bytes);
    } else if (kind < 7) {
        size = result(bytes, any(2) ? OUTCOME_GRANTED : (uint8_t)any(256));
    } else if (kind == 7) {
        size = any(MOST_SIZE);
        fill(bytes, size);
    } else if (kind == 8) {
        size = well_formed(bytes);
        bytes[any((uint32_t)size)] = 0;
    } else {
        size = any(8);
        fill(bytes, size);
    }
    uint32_t damage = any(16);
    if (damage == 0 && size > 0)
        bytes[any((uint32_t)size)] ^= (uint8_t)(1 << any(8));
    else if (damage == 1 && size > 0)
        size -= 1 + any((uint32_t)(size < 4 ? size : 4));
    else if (damage == 2)
        bytes[size++] = (uint8_t)any(256);
    while (is_grant((struct packet){bytes, size}))
        bytes[any(RESULT_SIZE)] ^= (uint8_t)(1 << any(8));
    return size;
}

static int hostile_session(void) {
    static uint8_t bytes[MOST_PACKETS][MOST_SIZE + 8];
    struct packet packets[MOST_PACKETS];
    uint8_t moods[MOST_PACKETS];
    char authinfo[200];
    size_t count = any(MOST_PACKETS + 1);
    fill(session_nonce, WIRE_NONCE);
    fill(moods, sizeof moods);
    for (size_t i = 0; i < count; i++)
        packets[i] = (struct packet){bytes[i], hostile_packet(bytes[i])};
    for (size_t i = 0; i < sizeof authinfo; i++)
        authinfo[i] = "\nabc"[any(4)];
    authinfo[any(sizeof authinfo)] = authinfo[sizeof authinfo - 1] = '\0';
    struct host host = {.moods = moods, .count = sizeof moods};
    return run_session(packets, count, any(2) ? authinfo : NULL, &host);
}

static bool controls_hold(void) {
    static const struct {
        uint8_t outcome;
        int code;
    } controls[] = {{OUTCOME_GRANTED, PAM_SUCCESS},      {OUTCOME_EXEMPT, PAM_IGNORE},
                    {OUTCOME_DENIED, PAM_AUTH_ERR},      {OUTCOME_LOCKED, PAM_AUTH_ERR},
                    {OUTCOME_TRIES_SPENT, PAM_MAXTRIES}, {OUTCOME_UNAVAILABLE, PAM_AUTHINFO_UNAVAIL},
                    {OUTCOME_ABORTED, PAM_ABORT}};
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
        uint8_t bytes[RESULT_SIZE];
        struct host host = {0};
        const struct packet packet = {bytes, result(bytes, controls[i].outcome)};
        if (run_session(&packet, 1, NULL, &host) != controls[i].code)
            return false;
    }
    return true;
}

int main(int argc, char **argv) {
    unsigned long sessions = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, granted = 0, refused[32] = {0};
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    bool held = controls_hold();
    for (unsigned long i = 0; i < sessions; i++) {
        int code = hostile_session();
        granted += code == PAM_SUCCESS;
        refused[code & 31]++;
    }
    printf("%lu hostile sessions, %lu granted; controls %s\n", sessions, granted, held ? "hold" : "FAIL");
    printf("unavailable %lu, conversation failed %lu, denied %lu, ignored %lu, tries spent %lu, aborted %lu\n",
           refused[PAM_AUTHINFO_UNAVAIL], refused[PAM_CONV_ERR], refused[PAM_AUTH_ERR], refused[PAM_IGNORE],
           refused[PAM_MAXTRIES], refused[PAM_ABORT]);
    return sessions == 0 || granted > 0 || !held;
}
