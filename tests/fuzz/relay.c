/* libFuzzer target: the input is a peer's packets (length u16 big endian, bytes), its first bytes are the host's moods.
 */
#include "relay_session.h"

#include <stdlib.h>
#include <string.h>

enum { MOODS = 4, MOST_PACKETS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct packet packets[MOST_PACKETS];
    size_t count = 0;
    bool may_grant = false;
    if (size < MOODS)
        return 0;
    struct host host = {.moods = data, .count = MOODS};
    memset(session_nonce, 'n', WIRE_NONCE); /* a constant, so that the fuzzer finds its way behind the comparison */
    for (size_t at = MOODS; at + 2 <= size && count < MOST_PACKETS; count++) {
        size_t length = (size_t)data[at] << 8 | data[at + 1];
        at += 2;
        length = length < size - at ? length : size - at;
        packets[count] = (struct packet){data + at, length};
        may_grant |= is_grant(packets[count]);
        at += length;
    }
    int code = run_session(packets, count, "publickey ssh-ed25519\npassword\n", &host);
    if (code == PAM_SUCCESS && !may_grant)
        abort();
    return 0;
}
