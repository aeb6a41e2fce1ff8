// Logs in with an account, as a client does after the sign-up page, and starts.
//
// Standard input: {"baseUrl", "user", "password"}. Standard output: the user ID.
import { text } from "node:stream/consumers";
import { ClientEvent, createClient, SyncState } from "matrix-js-sdk";
import { logger as sdkLogger } from "matrix-js-sdk/lib/logger.js";

sdkLogger.disableAll(); // standard output is for the result
const silent = () => {};
const logger = { trace: silent, debug: silent, info: silent, warn: silent, error: silent, getChild: () => logger };

const { baseUrl, user, password } = JSON.parse(await text(process.stdin));
const { user_id, access_token, device_id } = await createClient({ baseUrl, logger }).loginWithPassword(user, password);
const client = createClient({ baseUrl, userId: user_id, accessToken: access_token, deviceId: device_id, logger });
const synced = new Promise((resolve, reject) => {
    client.on(ClientEvent.Sync, (state, _, data) => {
        if (state === SyncState.Prepared) resolve();
        if (state === SyncState.Error) reject(data.error);
    });
});
await client.startClient();
await synced;
client.stopClient();
console.log((await client.whoami()).user_id);
process.exit(0); // a stopped client still has timers
