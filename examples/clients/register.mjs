// Registers accounts through matrix-js-sdk's InteractiveAuth, the way Element Web
// does, and starts a client on each.
//
// Standard input: {"baseUrl": ..., "cases": [{"username", "password", "tokens": [...]}]}
// The tokens of a case are tried in turn, in one session, until one is accepted. With
// a "thief", which is a token, the username is registered with it by somebody else just
// before the dummy stage. With an "email" the address is confirmed too, and no client is
// started.
// Standard output: one line of JSON per case, in order.
import { text } from "node:stream/consumers";
import { ClientEvent, createClient, SyncState } from "matrix-js-sdk";
import { AuthType, InteractiveAuth } from "matrix-js-sdk/lib/interactive-auth.js";
import { logger as sdkLogger } from "matrix-js-sdk/lib/logger.js";

// Standard output is for results.
sdkLogger.disableAll();
const silent = () => {};
const logger = { trace: silent, debug: silent, info: silent, warn: silent, error: silent, getChild: () => logger };

/** Registers one account and tells what was seen on the way. */
async function register(baseUrl, { username, password, tokens, thief, email }) {
    const client = createClient({ baseUrl, logger });
    const seen = { errors: [], sessions: new Set(), stages: [], dummies: 0, mailRequests: 0 };
    const remaining = [...tokens];
    let polled = false;

    const auth = new InteractiveAuth({
        matrixClient: client,
        doRequest: async (auth) => {
            if (auth?.session) seen.sessions.add(auth.session);
            if (auth?.type === AuthType.Dummy) {
                seen.dummies++;
                if (thief && seen.dummies === 1) await steal(baseUrl, username, thief);
            }
            return client.registerRequest({ username, password, initial_device_display_name: "InteractiveAuth", auth });
        },
        stateUpdated: (stage, { errcode }) => {
            seen.stages.push(stage);
            if (errcode) seen.errors.push(errcode);
            if (email && stage === AuthType.Email) {
                setImmediate(() => auth.poll()); // as Element does, but without its two seconds
                return;
            }
            if (stage !== AuthType.RegistrationToken) throw new Error(`unexpected stage ${stage}`);
            // Element polls while its prompt is open. The answer brings us here again.
            if (!polled) {
                polled = true;
                setImmediate(() => auth.poll());
                return;
            }
            const token = remaining.shift();
            if (token === undefined) throw new Error("out of tokens");
            auth.submitAuthDict({ type: AuthType.RegistrationToken, token });
        },
        inputs: { emailAddress: email },
        requestEmailToken: (address, secret, attempt) => {
            if (!email) throw new Error("no flow has an e-mail stage");
            seen.mailRequests++;
            return client.requestRegisterEmailToken(address, secret, attempt);
        },
        supportedStages: [AuthType.RegistrationToken, AuthType.Email, AuthType.Dummy],
    });
    const result = { ...seen };
    try {
        result.response = await auth.attemptAuth();
        if (!email) result.synced = await start(baseUrl, result.response);
    } catch (e) {
        result.failure = { message: e.message, status: e.httpStatus, errcode: e.errcode };
        // A client that does not stop sends its dummy stage again at once, and is
        // several times as fast as these.
        for (let i = 0; i < 20; i++) await fetch(`${baseUrl}/_matrix/client/versions`);
    }
    result.dummies = seen.dummies;
    result.mailRequests = seen.mailRequests;
    result.sessions = seen.sessions.size;
    return result;
}

/** Registers the username for somebody else. */
async function steal(baseUrl, username, token) {
    const post = async (auth) => {
        const body = JSON.stringify({ username, password: "another's", auth });
        return (await fetch(`${baseUrl}/_matrix/client/v3/register`, { method: "POST", body })).json();
    };
    const { session } = await post({ type: AuthType.RegistrationToken, token });
    const { user_id } = await post({ type: AuthType.Dummy, session });
    if (!user_id) throw new Error("the username could not be taken");
}

/** Starts a client on the new account: it counts as logged in once it has synced. */
async function start(baseUrl, { user_id, access_token, device_id }) {
    const client = createClient({ baseUrl, userId: user_id, accessToken: access_token, deviceId: device_id, logger });
    const synced = new Promise((resolve, reject) => {
        client.on(ClientEvent.Sync, (state, _, data) => {
            if (state === SyncState.Prepared) resolve(true);
            if (state === SyncState.Error) reject(data.error);
        });
    });
    await client.startClient();
    await synced;
    client.stopClient();
    await client.logout();
    return true;
}

const { baseUrl, cases } = JSON.parse(await text(process.stdin));
for (const c of cases) {
    console.log(JSON.stringify(await register(baseUrl, c)));
}
process.exit(0); // a stopped client still has timers
