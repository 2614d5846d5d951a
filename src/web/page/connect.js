// The page on which the owner lets an app in.
